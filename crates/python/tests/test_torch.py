"""The pool under PyTorch: its functions, called as PyTorch calls them, on a stand-in for the driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import sottovoce
import sottovoce.memory
import sottovoce.torch

#: The folder of the stand-in for NVIDIA's driver library; `check` builds it and sets this.
STAND_IN = os.environ.get("SOTTOVOCE_CUDA_STAND_IN")
needs_device = pytest.mark.skipif(STAND_IN is None, reason="there is no stand-in for the driver")

#: Runs a trace through the functions, as PyTorch's C++ does, in a process that has the stand-in.
CALLER = """
import ctypes, json, sys
from sottovoce import _native
conf, memory, path = sys.argv[1:]
_native.install_allocator(conf, memory, 0, (lambda: tag) if "tags" in path else None)
library = ctypes.CDLL(_native.__file__)
malloc, free = library.sottovoce_cuda_malloc, library.sottovoce_cuda_free
malloc.restype = ctypes.c_void_p
malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
live = {}
for line in open(path):
    kind, *rest = line.split()
    if kind == "a":
        tag = rest[2]
        live[rest[0]] = malloc(int(rest[1]), 0, None)
        assert live[rest[0]]
    elif kind == "f":
        free(live.pop(rest[0]), 0, 0, None)
    elif rest[0] == "clear":
        library.sottovoce_cuda_empty_cache()
print(json.dumps(_native.allocator_report(0)))
"""

TRACE = """\
m load
a 0 5000000 weight
a 1 300000 weight
a 2 9000000 activation
a 3 700 activation
f 2
a 4 8000000 activation
f 1
m clear
a 5 30000000 cache
f 4
f 5
a 6 20000000 cache
"""


def call(conf: str, memory: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs `CALLER` with the stand-in as the machine's driver."""
    folder = os.environ.get("LD_LIBRARY_PATH")
    search = f"{STAND_IN}:{folder}" if folder else str(STAND_IN)
    return subprocess.run(
        [sys.executable, "-c", CALLER, conf, memory, str(path)],
        env={**os.environ, "LD_LIBRARY_PATH": search},
        capture_output=True,
        text=True,
        timeout=120,
    )


@needs_device
@pytest.mark.parametrize(
    "conf", ["", "expandable_segments:True", "max_split_size_mb:32", "roundup_power2_divisions:4"]
)
def test_peaks_are_those_that_the_replay_predicts(conf: str, tmp_path: Path) -> None:
    trace = tmp_path / "run.trace"
    trace.write_text(TRACE)
    called = call(conf, "1GiB", trace)
    assert called.returncode == 0, called.stderr
    report = json.loads(called.stdout)
    predicted = sottovoce.memory.replay(trace, conf=conf, device_memory="1GiB")
    assert report["reserved_bytes"]["all"]["peak"] == predicted.peak_reserved
    assert report["allocated_bytes"]["all"]["peak"] == predicted.peak_allocated
    assert report["requested_bytes"]["all"]["peak"] == predicted.peak_requested
    assert report["reserved_bytes"]["all"]["current"] == predicted.end_reserved
    assert report["num_device_alloc"] == predicted.driver_allocs


@needs_device
def test_blocks_are_booked_under_their_owners(tmp_path: Path) -> None:
    trace = tmp_path / "tags.trace"
    trace.write_text(TRACE)
    called = call("", "1GiB", trace)
    assert called.returncode == 0, called.stderr
    owners = {
        usage["owner"]["tag"]: usage["live_bytes"] for usage in json.loads(called.stdout)["owners"]
    }
    assert owners["weight"] == 5_000_000
    assert owners["activation"] == 700
    assert owners["cache"] == 20_000_000


@needs_device
def test_the_budget_is_kept_and_where_nobody_can_catch_it_the_process_ends(
    tmp_path: Path,
) -> None:
    trace = tmp_path / "tags.trace"
    trace.write_text(TRACE)
    called = call("", "30MiB", trace)
    assert called.returncode != 0
    assert "Tried to allocate" in called.stderr and "weight" in called.stderr


def test_options_that_pytorch_would_refuse_are_refused_by_name(
    torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "cuda", types.SimpleNamespace(init=int, synchronize=int))
    with pytest.raises(sottovoce.ArgumentError, match="foo") as refused:
        sottovoce.torch.use_allocator("foo:1")
    assert refused.value.argument == "conf"
    with pytest.raises(sottovoce.ArgumentError) as refused:
        sottovoce.torch.use_allocator(memory="much")
    assert refused.value.argument == "memory"
    with pytest.raises(sottovoce.ArgumentTypeError, match="owners"):
        sottovoce.torch.use_allocator(owners=3)  # type: ignore[arg-type]
    with pytest.raises(sottovoce.ToolError, match="not installed"):
        sottovoce.torch.report()


def test_without_pytorch_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(sottovoce.MissingPackageError, match="install torch"):
        sottovoce.torch.use_allocator()
