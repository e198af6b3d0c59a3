"""A Pipecat service that speaks through sottovoce's WebSocket.

Each of Pipecat's audio contexts (one for a turn) has a connection of its own, so that sound never
belongs to another turn, and an interruption ends speech and frees its place at once. The next
connection is opened ahead, so that no turn waits for a handshake. Text goes out as it comes, token by
token: the server finds the ends of sentences.

    tts = SottovoceTTSService(url="ws://localhost:8000/v1/stream", voice="default")
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from pipecat.frames.frames import CancelFrame, EndFrame, ErrorFrame, Frame, StartFrame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TextAggregationMode, TTSService
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

SAMPLE_RATE = 24_000
MARKS_BEFORE = re.compile(r"(?:^|(?<=\s))[^\w\s]+$")
MARKS_AFTER = re.compile(r"[^\w\s]*")


def with_marks(text: str, word: dict[str, Any]) -> str:
    """The word as the text has it, with the marks that belong to it."""
    start, end = word["text_start"], word["text_end"]
    before = MARKS_BEFORE.search(text[max(start - 8, 0) : start])
    after = MARKS_AFTER.match(text, end)
    return (before[0] if before else "") + text[start:end] + (after[0] if after else "")


class SottovoceTTSService(TTSService):
    """Speaks text as it arrives.

    Args:
        url: The server's WebSocket.
        api_key: A line of the server's key file, if it has one.
        voice: A voice's name or alias.
        options: Further fields of the protocol's ``start``, such as ``{"speed": 1.1, "seed": 7}``.
        word_times: Text goes downstream word by word, each as it is heard, so that an interrupted turn has the words that
            were heard. With a model that tells no word times, a turn's text comes at its end.
    """

    def __init__(
        self,
        *,
        url: str = "ws://localhost:8000/v1/stream",
        api_key: str | None = None,
        voice: str = "default",
        options: dict[str, Any] | None = None,
        word_times: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("text_aggregation_mode", TextAggregationMode.TOKEN)
        super().__init__(
            push_start_frame=True,
            push_text_frames=not word_times,
            push_stop_frames=False,
            sample_rate=SAMPLE_RATE,
            settings=TTSSettings(model=None, voice=voice, language=None),
            **kwargs,
        )
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._options = {"word_times": word_times, **(options or {})}
        self._texts: dict[str, str] = {}
        self._connections: dict[str, ClientConnection] = {}
        self._readers: dict[str, asyncio.Task] = {}
        self._spare: ClientConnection | None = None

    def can_generate_metrics(self) -> bool:
        """The time to the first sound is measured."""
        return True

    async def start(self, frame: StartFrame) -> None:
        """Opens the first connection."""
        await super().start(frame)
        await self._open_spare()

    async def stop(self, frame: EndFrame) -> None:
        """Closes all connections after the speech that is under way."""
        await super().stop(frame)
        await self._close_all()

    async def cancel(self, frame: CancelFrame) -> None:
        """Closes all connections at once."""
        await super().cancel(frame)
        await self._close_all()

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Sends a piece of text; its sound arrives in the context ``context_id``."""
        try:
            connection = await self._connection(context_id)
            self._texts[context_id] += text
            await connection.send(json.dumps({"type": "text", "text": text}))
            await self.start_tts_usage_metrics(text)
            yield None
        except (OSError, ConnectionClosed) as error:
            yield ErrorFrame(error=f"sottovoce cannot be reached at {self._url}: {error}")
            yield TTSStoppedFrame(context_id=context_id)
            await self._close(context_id)

    async def flush_audio(self, context_id: str | None = None) -> None:
        """Tells that the context's text is complete."""
        context_id = context_id or self.get_active_audio_context_id()
        connection = self._connections.get(context_id or "")
        if connection and connection.state is State.OPEN:
            await connection.send('{"type": "end"}')

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """Ends the context's speech: without its connection the server stops at once."""
        await self._close(context_id)
        await super().on_audio_context_interrupted(context_id)
        if self._spare is None:
            await self._open_spare()

    async def _connect(self) -> ClientConnection:
        return await connect(self._url, additional_headers=self._headers, max_size=1 << 20)

    async def _open_spare(self) -> None:
        try:
            self._spare = await self._connect()
        except OSError:
            # The turn that needs it reports the error.
            self._spare = None

    async def _connection(self, context_id: str) -> ClientConnection:
        """The context's connection, opened with the context's first text."""
        known = self._connections.get(context_id)
        if known:
            return known
        spare, self._spare = self._spare, None
        open_ahead = spare is not None and spare.state is State.OPEN
        connection = spare if open_ahead else await self._connect()
        self._connections[context_id], self._texts[context_id] = connection, ""
        await connection.send(json.dumps({"type": "start", "voice": self._settings.voice, **self._options}))
        self._readers[context_id] = self.create_task(self._read(context_id, connection), name=f"sottovoce {context_id}")
        return connection

    async def _read(self, context_id: str, connection: ClientConnection) -> None:
        """Passes the context's sound on until the server has said everything."""
        try:
            async for message in connection:
                if isinstance(message, bytes):
                    await self.stop_ttfb_metrics()
                    frame = TTSAudioRawFrame(message, SAMPLE_RATE, 1, context_id=context_id)
                    await self.append_to_audio_context(context_id, frame)
                    continue
                told = json.loads(message)
                if words := told.get("words"):
                    text = self._texts[context_id]
                    times = [(with_marks(text, word), word["start"]) for word in words]
                    await self.add_word_timestamps(times, context_id)
                if told["type"] == "error":
                    await self.push_error(error_msg=told["error"]["message"])
        except ConnectionClosed as error:
            await self.push_error(error_msg=f"sottovoce closed the connection: {error}")
        if self.audio_context_available(context_id):
            await self.append_to_audio_context(context_id, TTSStoppedFrame(context_id=context_id))
            await self.remove_audio_context(context_id)
        self._connections.pop(context_id, None)
        self._texts.pop(context_id, None)
        if self._spare is None:
            await self._open_spare()
        self._readers.pop(context_id, None)

    async def _close(self, context_id: str) -> None:
        reader = self._readers.pop(context_id, None)
        connection = self._connections.pop(context_id, None)
        self._texts.pop(context_id, None)
        if reader:
            await self.cancel_task(reader)
        if connection:
            await connection.close()

    async def _close_all(self) -> None:
        for context_id in list(self._readers):
            await self._close(context_id)
        spare, self._spare = self._spare, None
        if spare:
            await spare.close()
