"""What is left after many streams, and whether threads agree: ``endurance.py [STREAMS] [SECONDS]``.

Begins streams and drops them at random points, then lets 8 threads share an engine. Prints one JSON
object; ends with status 1 if a figure is not what it must be.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import numpy as np

import sottovoce

THREADS = 8
TEXTS = [f"This is sentence number {number}." for number in range(THREADS)]


def resident_bytes() -> int:
    """The process's resident size."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def books(engine: sottovoce.Engine) -> tuple[int, int, int]:
    """Bytes in use, held and promised once nobody speaks."""
    while True:
        metrics = engine.engine_metrics()
        if metrics.streams_live + metrics.streams_waiting == 0:
            break
        time.sleep(0.01)
    engine.trim()
    report = engine.memory_report()
    return report.allocated_bytes, report.reserved_bytes, report.promised_bytes


def drop(engine: sottovoce.Engine, streams: int, seed: int) -> None:
    """Begins streams and drops each at a random point."""
    numbers = random.Random(seed)
    for _ in range(streams):
        stream = engine.stream("Hello there, how are you?", chunk_size=5)
        chunks = numbers.choice((0,) * 12 + (1,) * 3 + (2,))
        if chunks == 0:
            # In line, as it begins, or among its first steps.
            time.sleep(numbers.random() * 0.004)
        for _ in range(chunks):
            next(stream, None)


def main(streams: int = 10_000, seconds: int = 60) -> int:
    """Measures; the exit status."""
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
        alone = [engine.speak(text, seed=5) for text in TEXTS]
        drop(engine, streams // 10, 1)
        before, resident_before = books(engine), resident_bytes()
        drop(engine, streams, 2)
        after, resident_after = books(engine), resident_bytes()
        until = time.monotonic() + seconds
        spoken = [0] * THREADS
        differing = [0] * THREADS

        def share(number: int) -> None:
            while time.monotonic() < until:
                place = (number + spoken[number]) % THREADS
                samples = engine.speak(TEXTS[place], seed=5)
                differing[number] += not np.array_equal(samples, alone[place])
                spoken[number] += 1

        threads = [threading.Thread(target=share, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(
        json.dumps(
            {
                "streams": streams,
                "books_before": before,
                "books_after": after,
                "resident_growth_bytes": resident_after - resident_before,
                "threads": THREADS,
                "spoken": sum(spoken),
                "differing": sum(differing),
            }
        )
    )
    return int(before != after or sum(differing) > 0)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
