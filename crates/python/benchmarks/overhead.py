"""What Python adds to the engine, against the command's binary: ``overhead.py BINARY [ROUNDS]``.

Both speak the same text with the same seed on one thread, in turn; each figure is the best of all
rounds. Times on the clock say little on a busy machine: ``python_share`` is the processor's time of
the thread that reads, as a share of the whole process's while it speaks, and ``python_first_ms`` is
that thread's time until it has the first chunk. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TEXT = (
    "Every byte has an owner, and the owner knows when to let it go. "
    "Say how much memory the engine may use, and it speaks within that. "
) * 4

#: Loads, speaks, and tells.
PROGRAM = """
import json, sys, time
import sottovoce
with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
    own, all_of_it = time.thread_time(), time.process_time()
    first = None
    for chunk in engine.stream(sys.argv[1]):
        metrics = chunk.metrics
        first = first or time.thread_time() - own
    own, all_of_it = time.thread_time() - own, time.process_time() - all_of_it
print(json.dumps({
    "rtf": metrics.rtf,
    "latency_to_first_chunk": metrics.latency_to_first_chunk,
    "share": own / all_of_it,
    "first": first,
}))
"""


def figures(command: list[str]) -> dict[str, float]:
    """What a command prints, and the most that it had resident."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed: dict[str, Any] = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return {
        "rtf": printed["rtf"],
        "first_audio": printed["latency_to_first_chunk"],
        "resident": usage.ru_maxrss * 1024,
        "share": printed.get("share", 0.0),
        "first": printed.get("first", 0.0),
    }


def main(binary: str, rounds: int = 7) -> None:
    """Measures in turn."""
    Path(binary).resolve(strict=True)
    options = ["--out", "/dev/null", "--format", "pcm", "--memory", "256MiB", "--threads", "1"]
    of_binary, of_python = [], []
    for _ in range(rounds):
        of_binary.append(figures([binary, "speak", TEXT, "--json", *options]))
        of_python.append(figures([sys.executable, "-c", PROGRAM, TEXT]))
    best = {
        name: [min(one[name] for one in measured) for measured in (of_binary, of_python)]
        for name in ("rtf", "first_audio", "resident", "share", "first")
    }
    print(
        json.dumps(
            {
                "rounds": rounds,
                "rtf": best["rtf"],
                "rtf_ratio": best["rtf"][1] / best["rtf"][0],
                "first_audio_ms": [seconds * 1000 for seconds in best["first_audio"]],
                "python_share": best["share"][1],
                "python_first_ms": best["first"][1] * 1000,
                "resident_mb": [size / 2**20 for size in best["resident"]],
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
