"""Runs the service in a Pipecat pipeline: a turn in tokens, an utterance by itself, an interruption, and the turn after it.

    python check.py ws://127.0.0.1:8000/v1/stream
"""

import asyncio
import sys
import time

from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.workers.runner import WorkerRunner
from sottovoce_tts import SAMPLE_RATE, SottovoceTTSService

TEXT = "Say how much memory it may use. It speaks within that, from the first word to the last."


class Listener(FrameProcessor):
    """Collects sound by context."""

    def __init__(self):
        super().__init__()
        self.sound, self.words, self.order, self.stopped, self.errors = {}, {}, [], asyncio.Queue(), []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStartedFrame):
            self.order.append(frame.context_id)
        elif isinstance(frame, TTSAudioRawFrame):
            assert frame.sample_rate == SAMPLE_RATE
            self.sound[frame.context_id] = self.sound.get(frame.context_id, b"") + frame.audio
        elif isinstance(frame, TTSTextFrame):
            self.words.setdefault(frame.context_id, []).append((frame.text, frame.pts))
        elif isinstance(frame, TTSStoppedFrame):
            self.stopped.put_nowait(frame.context_id)
        elif isinstance(frame, ErrorFrame):
            self.errors.append(frame.error)
        await self.push_frame(frame, direction)


def turn(text):
    tokens = [LLMTextFrame(word + " ") for word in text.split(" ")]
    return [LLMFullResponseStartFrame(), *tokens, LLMFullResponseEndFrame()]


async def main():
    listener = Listener()
    service = SottovoceTTSService(url=sys.argv[1], options={"seed": 7})
    worker = PipelineWorker(Pipeline([service, listener]), cancel_on_idle_timeout=False)
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(worker, frame):
        started.set()

    async def talk():
        await started.wait()
        asked = time.monotonic()
        for frame in turn(TEXT):
            await worker.queue_frame(frame)
        first = await asyncio.wait_for(listener.stopped.get(), 60)
        whole = len(listener.sound[first]) / 2 / SAMPLE_RATE
        print(f"a turn in tokens: {whole:.1f} s of speech after {time.monotonic() - asked:.2f} s")
        assert whole > 2
        words, times = zip(*listener.words[first], strict=True)
        assert " ".join(words) == TEXT, words
        assert list(times) == sorted(times) and times[0] < times[-1], "each word has its own time"
        assert times[-1] - times[0] < whole * 1e9
        print(f"the {len(words)} words as they are heard, the last {(times[-1] - times[0]) / 1e9:.1f} s after the first")
        await worker.queue_frame(TTSSpeakFrame("By itself."))
        alone = await asyncio.wait_for(listener.stopped.get(), 60)
        assert alone != first and listener.sound[alone]
        for frame in turn(" ".join([TEXT] * 20)):
            await worker.queue_frame(frame)
        while len(listener.order) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        await worker.queue_frame(InterruptionFrame())
        await asyncio.sleep(0.5)
        interrupted = listener.order[2]
        heard = len(listener.sound.get(interrupted, b""))
        for frame in turn(TEXT):
            await worker.queue_frame(frame)
        while len(listener.order) < 4:
            await asyncio.sleep(0.01)
        after = listener.order[3]
        while await asyncio.wait_for(listener.stopped.get(), 60) != after:
            pass
        assert len(listener.sound.get(interrupted, b"")) == heard, "no sound of an interrupted turn comes later"
        assert len(listener.sound[after]) == len(listener.sound[first]), "the next turn is what it would be by itself"
        told = " ".join(word for word, _ in listener.words.get(interrupted, []))
        assert len(told) < 20 * len(TEXT), "words that were not heard are not told"
        print(f"an interruption after {heard / 2 / SAMPLE_RATE:.1f} s of speech, and the turn after it")
        assert not listener.errors, listener.errors
        await worker.queue_frame(EndFrame())

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())


asyncio.run(main())
