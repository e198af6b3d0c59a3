"""What Python adds to the engine, against the command's binary: ``overhead.py BINARY [ROUNDS]``.

Both speak the same text with the same seed on one thread. A round is one run of each, in
alternating order, and each figure is the median of all rounds: a busy machine does the same to
both.

``processor_ratio`` compares processor seconds of whole processes for a second of speech: those for
a long text less those for a short one, so that starting and loading drop out. ``reading_share`` is
the processor time of the thread that reads, as a share of its process's while it speaks. The first
chunk is measured in processor time of the reading thread (``first_reading_ms``), and on the clock
to where the program has it (``first_audio_ms``) and beyond where the engine has it
(``first_beyond_engine_ms``: the least and the median). The clock counts also how long a busy
machine lets the reading thread wait.
Prints one JSON object; ends with status 1 if a figure is over its limit.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

SHORT = "Every byte has an owner."
LONG = (
    "Every byte has an owner, and the owner knows when to let it go. "
    "Say how much memory the engine may use, and it speaks within that. "
) * 4

#: The most that each figure may be.
LIMITS = {"processor_ratio": 1.02, "first_reading_ms": 5.0, "resident_beyond_mb": 25.0}

#: Loads, speaks, and tells.
PROGRAM = """
import json, sys, time
import sottovoce
with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
    own, all_of_it, clock = time.thread_time(), time.process_time(), time.perf_counter()
    first = None
    for chunk in engine.stream(sys.argv[1]):
        metrics = chunk.metrics
        if first is None:
            first = time.perf_counter() - clock, time.thread_time() - own
            engine_first = metrics.latency_to_first_chunk
    own, all_of_it = time.thread_time() - own, time.process_time() - all_of_it
print(json.dumps({
    "total_audio_duration": metrics.total_audio_duration,
    "latency_to_first_chunk": first[0],
    "beyond_engine": first[0] - engine_first,
    "reading_first": first[1],
    "reading_share": own / all_of_it,
}))
"""


def figures(command: list[str]) -> dict[str, float]:
    """What a command prints, its processor time in seconds, and the most bytes it had resident."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed: dict[str, Any] = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    printed["processor"] = usage.ru_utime + usage.ru_stime
    printed["resident"] = usage.ru_maxrss * 1024
    return printed


def main(binary: str, rounds: int = 15) -> int:
    """Measures in turn; the exit status."""
    Path(binary).resolve(strict=True)
    options = ["--json", "--out", "/dev/null", "--format", "pcm", "--memory", "256MiB"]
    options += ["--threads", "1", "--device", "cpu"]
    programs = {
        "binary": lambda text: figures([binary, "speak", text, *options]),
        "python": lambda text: figures([sys.executable, "-c", PROGRAM, text]),
    }
    measured: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {
        name: [] for name in programs
    }
    for number in range(rounds):
        for name in sorted(programs, reverse=number % 2 == 1):
            measured[name].append((programs[name](SHORT), programs[name](LONG)))

    def median(name: str, figure: str) -> float:
        return statistics.median(long[figure] for _, long in measured[name])

    def for_a_second(pair: tuple[dict[str, float], dict[str, float]]) -> float:
        short, long = pair
        seconds = long["total_audio_duration"] - short["total_audio_duration"]
        return (long["processor"] - short["processor"]) / seconds

    costs = {name: [for_a_second(pair) for pair in pairs] for name, pairs in measured.items()}
    ratios = [beside / alone for alone, beside in zip(costs["binary"], costs["python"])]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    resident = [median(name, "resident") / 2**20 for name in programs]
    least_beyond = min(long["beyond_engine"] for _, long in measured["python"])
    limited = {
        "processor_ratio": middle,
        "first_reading_ms": median("python", "reading_first") * 1000,
        "resident_beyond_mb": resident[1] - resident[0],
    }
    seconds = [median(name, "total_audio_duration") for name in programs]
    first = [median(name, "latency_to_first_chunk") * 1000 for name in programs]
    others = {
        "rounds": rounds,
        "audio_seconds": seconds,
        "processor_seconds_for_a_second": [statistics.median(costs[name]) for name in programs],
        "processor_ratio_quartiles": [lower, upper],
        "reading_share": median("python", "reading_share"),
        "first_audio_ms": first,
        "first_beyond_engine_ms": [least_beyond * 1000, median("python", "beyond_engine") * 1000],
        "resident_mb": resident,
    }
    print(json.dumps(limited | others))
    over = [name for name, limit in LIMITS.items() if limited[name] > limit]
    for name in over:
        print(f"{name} is over {LIMITS[name]}", file=sys.stderr)
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))
