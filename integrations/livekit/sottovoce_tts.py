"""A LiveKit plug-in that speaks through sottovoce's WebSocket.

Text goes out as it comes, token by token: the server finds the ends of sentences. Each reply has a connection of its
own: closing its stream, as an interruption does, ends speech and frees its place at once.

    session = AgentSession(tts=TTS(url="ws://localhost:8000/v1/stream", voice="default"), ...)
"""

import asyncio
import json
import re
from typing import Any

from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, TimedString
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

SAMPLE_RATE = 24_000
MARKS_BEFORE = re.compile(r"(?:^|(?<=\s))[^\w\s]+$")
AFTER = re.compile(r"[^\w\s]*\s*")


def timed(text: str, word: dict[str, Any]) -> TimedString:
    """The word as the text has it, with its marks and the space behind it, and when it is heard."""
    start, end = word["text_start"], word["text_end"]
    before = MARKS_BEFORE.search(text[max(start - 8, 0) : start])
    after = AFTER.match(text, end)
    written = (before[0] if before else "") + text[start:end] + (after[0] if after else "")
    return TimedString(written, start_time=word["start"], end_time=word["end"])


class TTS(tts.TTS):
    """Speaks text as it arrives.

    Args:
        url: The server's WebSocket.
        api_key: A line of the server's key file, if it has one.
        voice: A voice's name or alias.
        options: Further fields of the protocol's ``start``, such as ``{"speed": 1.1, "seed": 7}``.
        word_times: The transcript is aligned with the sound, word by word. Models that tell no word times have none.
    """

    def __init__(
        self,
        *,
        url: str = "ws://localhost:8000/v1/stream",
        api_key: str | None = None,
        voice: str = "default",
        options: dict[str, Any] | None = None,
        word_times: bool = True,
    ) -> None:
        capabilities = tts.TTSCapabilities(streaming=True, aligned_transcript=word_times)
        super().__init__(capabilities=capabilities, sample_rate=SAMPLE_RATE, num_channels=1)
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._start = {"type": "start", "voice": voice, "word_times": word_times, **(options or {})}

    @property
    def provider(self) -> str:
        """The name in metrics."""
        return "sottovoce"

    def synthesize(self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> tts.ChunkedStream:
        """Speaks a whole text."""
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(self, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS) -> "SpeechStream":
        """Speaks text that is pushed in pieces."""
        return SpeechStream(tts=self, conn_options=conn_options)

    async def connect(self, timeout: float) -> ClientConnection:
        """A connection whose voice and options are set."""
        connection = await connect(self._url, additional_headers=self._headers, max_size=1 << 20, open_timeout=timeout)
        await connection.send(json.dumps(self._start))
        return connection


class SpeechStream(tts.SynthesizeStream):
    """The text and sound of one reply."""

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=SAMPLE_RATE, num_channels=1, mime_type="audio/pcm", stream=True
        )
        segment: _Segment | None = None
        try:
            async for text in self._input_ch:
                if not isinstance(text, str):
                    if segment:
                        await segment.finish()
                    segment = None
                    continue
                if segment is None:
                    self._mark_started()
                    connection = await self._tts.connect(self._conn_options.timeout)
                    segment = _Segment(connection, output_emitter)
                await segment.say(text)
            if segment:
                await segment.finish()
        except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
            raise APIConnectionError(f"sottovoce cannot be reached: {error}") from error
        finally:
            if segment:
                await segment.close()


class _Segment:
    """One utterance on its connection."""

    def __init__(self, connection: ClientConnection, emitter: tts.AudioEmitter) -> None:
        self._connection = connection
        self._emitter = emitter
        self._text = ""
        emitter.start_segment(segment_id=utils.shortuuid())
        self._reader = asyncio.create_task(self._read())

    async def say(self, text: str) -> None:
        self._text += text
        await self._connection.send(json.dumps({"type": "text", "text": text}))

    async def finish(self) -> None:
        """Tells that the text is complete, and waits until it is spoken."""
        await self._connection.send('{"type": "end"}')
        await self._reader
        self._emitter.end_segment()

    async def close(self) -> None:
        """Ends the speech at once, if it is under way."""
        await utils.aio.cancel_and_wait(self._reader)
        await self._connection.close()

    async def _read(self) -> None:
        async for message in self._connection:
            if isinstance(message, bytes):
                self._emitter.push(message)
                continue
            told = json.loads(message)
            if words := told.get("words"):
                self._emitter.push_timed_transcript([timed(self._text, word) for word in words])
            if told["type"] == "error":
                error = told["error"]
                raise APIStatusError(error["message"], status_code=400, body=error, retryable=False)
