"""Threads, asyncio, signals and forks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import sottovoce
from conftest import TEXT, is_idle, wait_until


def test_threads_share_an_engine_and_get_what_one_alone_gets(engine: sottovoce.Engine) -> None:
    texts = [f"This is sentence number {number}." for number in range(8)]
    alone = [engine.speak(text, seed=5) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: engine.speak(text, seed=5), texts * 2))
    for number, samples in enumerate(together):
        assert np.array_equal(samples, alone[number % 8])


def test_the_lock_is_free_while_the_engine_works(engine: sottovoce.Engine) -> None:
    spoken = threading.Event()
    count = 0

    def speak() -> None:
        engine.speak(TEXT * 4)
        spoken.set()

    thread = threading.Thread(target=speak)
    thread.start()
    while not spoken.is_set():
        count += 1
        time.sleep(0)
    thread.join()
    assert count > 10


def test_tasks_that_share_a_stream_share_its_chunks(engine: sottovoce.Engine) -> None:
    async def read(stream: sottovoce.Stream, samples: list[int]) -> None:
        async for chunk in stream:
            samples.append(len(chunk.samples))

    async def together() -> int:
        samples: list[int] = []
        stream = engine.stream(TEXT, seed=2, chunk_size=10)
        readers = [asyncio.create_task(read(stream, samples)) for _ in range(3)]
        await asyncio.wait_for(asyncio.gather(*readers), 60)
        return sum(samples)

    assert asyncio.run(together()) == len(engine.speak(TEXT, seed=2, chunk_size=10))


def test_a_task_that_waits_ends_with_a_stream_that_is_closed(engine: sottovoce.Engine) -> None:
    async def wait_in_vain() -> list[sottovoce.Chunk]:
        stream = engine.open_stream()

        async def read() -> list[sottovoce.Chunk]:
            return [chunk async for chunk in stream]

        reader = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        stream.close()
        return await asyncio.wait_for(reader, 60)

    assert asyncio.run(wait_in_vain()) == []


def test_asyncio_gets_the_same_chunks(engine: sottovoce.Engine) -> None:
    async def speak(text: str) -> np.ndarray:
        async with engine.stream(text, seed=2, chunk_size=10) as stream:
            return np.concatenate([chunk.samples async for chunk in stream])

    async def all_of_them() -> list[np.ndarray]:
        return await asyncio.gather(*(speak(f"{TEXT} {number}.") for number in range(20)))

    spoken = asyncio.run(all_of_them())
    for number, samples in enumerate(spoken):
        assert np.array_equal(samples, engine.speak(f"{TEXT} {number}.", seed=2, chunk_size=10))


def test_a_loop_goes_on_while_a_stream_is_awaited(engine: sottovoce.Engine) -> None:
    async def both() -> int:
        ticks = 0
        stream = engine.open_stream()

        async def tick() -> None:
            nonlocal ticks
            while ticks < 5:
                await asyncio.sleep(0.001)
                ticks += 1
            stream.push_text("Hello. ")
            stream.finish()

        ticker = asyncio.create_task(tick())
        async for _ in stream:
            pass
        await ticker
        return ticks

    assert asyncio.run(both()) == 5


def test_a_cancelled_task_leaves_nothing(own_engine: sottovoce.Engine) -> None:
    async def give_up() -> None:
        async def wait() -> None:
            async with own_engine.open_stream() as stream:
                async for _ in stream:
                    pass

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert wait_until(lambda: is_idle(own_engine))


def test_another_thread_may_close_a_stream_that_somebody_waits_for(
    engine: sottovoce.Engine,
) -> None:
    stream = engine.open_stream()
    closer = threading.Timer(0.05, stream.close)
    closer.start()
    assert list(stream) == []
    closer.join()


def test_an_engine_may_close_while_threads_wait(own_engine: sottovoce.Engine) -> None:
    streams = [own_engine.open_stream() for _ in range(4)]

    def wait(stream: sottovoce.Stream) -> bool:
        try:
            list(stream)
        except sottovoce.StoppedError:
            return True
        return False

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(wait, stream) for stream in streams]
        time.sleep(0.05)
        own_engine.close()
        assert all(future.result(timeout=30) for future in waiting)


def test_ctrl_c_ends_a_stream(own_engine: sottovoce.Engine) -> None:
    stream = own_engine.open_stream()
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    # Shells start background jobs with the signal ignored, which Python leaves as it is.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        interrupt.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert list(stream) == []
    assert wait_until(lambda: is_idle(own_engine))


def _in_child(engine: sottovoce.Engine, stream: sottovoce.Stream, answers: object) -> None:
    problems = []
    for call in (
        lambda: engine.speak("Hello."),
        engine.memory_report,
        engine.close,
        lambda: next(stream),
        stream.close,
    ):
        try:
            call()
            problems.append("it did not refuse")
        except sottovoce.ForkedError:
            pass
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as own:
        problems.append(float(np.abs(own.speak("Hello.")).max()) > 0.01)  # type: ignore[arg-type]
    answers.put(problems)  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_refused_and_may_load_its_own(engine: sottovoce.Engine) -> None:
    stream = engine.stream(TEXT * 10)
    next(stream)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(engine, stream, answers))
    child.start()
    assert answers.get(timeout=60) == [True]
    child.join(timeout=30)
    assert child.exitcode == 0, "the child must end in good order"
    stream.close()
    assert len(engine.speak("Hello.")) > 0


def test_an_interpreter_ends_while_streams_are_under_way() -> None:
    program = (
        "import sottovoce, threading\n"
        "engine = sottovoce.Engine('pico', memory='256MiB', device='cpu', threads=1)\n"
        "streams = [engine.stream('Every byte has an owner. ' * 20) for _ in range(4)]\n"
        "next(streams[0])\n"
        "threading.Thread(target=lambda: list(streams[1]), daemon=True).start()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True)
    assert ended.returncode == 0, ended.stderr


def _begin_and_drop(engine: sottovoce.Engine, count: int, seed: int) -> None:
    numbers = random.Random(seed)
    for _ in range(count):
        stream = engine.stream("Hello there.", chunk_size=5)
        for _ in range(numbers.randrange(3)):
            next(stream, None)
        if numbers.random() < 0.5:
            stream.close()


def test_streams_begun_and_dropped_leave_the_books_as_they_were(
    own_engine: sottovoce.Engine,
) -> None:
    _begin_and_drop(own_engine, 20, 1)
    assert wait_until(lambda: is_idle(own_engine))
    own_engine.trim()
    before = own_engine.memory_report()
    _begin_and_drop(own_engine, 300, 2)
    assert wait_until(lambda: is_idle(own_engine))
    own_engine.trim()
    after = own_engine.memory_report()
    assert after.allocated_bytes == before.allocated_bytes
    assert after.reserved_bytes == before.reserved_bytes
    assert after.promised_bytes == before.promised_bytes
