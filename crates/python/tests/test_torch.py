"""The pool under PyTorch: called as PyTorch calls it, on a stand-in for the driver."""

from __future__ import annotations

import json
import os
import shutil
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
    """Runs `CALLER`."""
    return run_caller(CALLER, conf, memory, str(path))


def run_caller(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program with the stand-in, if there is one, as the machine's driver."""
    folders = [STAND_IN, os.environ.get("LD_LIBRARY_PATH")]
    search = ":".join(folder for folder in folders if folder)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
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


#: A block that a stream still writes to is freed, and another of its size is asked for.
STREAMS = """
import ctypes
from sottovoce import _native
_native.install_allocator("", "1GiB", 0, None)
library, driver = ctypes.CDLL(_native.__file__), ctypes.CDLL("libcuda.so.1")
malloc, free = library.sottovoce_cuda_malloc, library.sottovoce_cuda_free
malloc.restype = ctypes.c_void_p
malloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
def check(status):
    assert status == 0, status
context, stream = ctypes.c_void_p(), ctypes.c_void_p()
check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
check(driver.cuCtxSetCurrent(context))
check(driver.cuStreamCreate(ctypes.byref(stream), 1))
size = 30 << 20
used = malloc(size, 0, None)
write = driver.cuMemsetD8Async
write.argtypes = [ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p]
check(write(used, 7, size, stream))
library.sottovoce_cuda_record_stream(ctypes.c_void_p(used), stream)
free(used, size, 0, None)
meanwhile = malloc(size, 0, None)
check(driver.cuStreamSynchronize(stream))
afterwards = malloc(size, 0, None)
print(meanwhile != used, afterwards == used)
"""


@needs_device
def test_a_block_waits_for_the_streams_that_use_it() -> None:
    called = run_caller(STREAMS)
    assert called.returncode == 0, called.stderr
    assert called.stdout.split() == ["True", "True"]


#: Allocates through C++ until the budget is used up; twice, as nothing may be left half done.
THROWER = """
import ctypes, sys
from sottovoce import _native
folder = sys.argv[1]
for name in ("libc10.so", "libc10_cuda.so"):
    ctypes.CDLL(f"{folder}/{name}", mode=ctypes.RTLD_GLOBAL)
caller = ctypes.CDLL(f"{folder}/caller.so")
if len(sys.argv) > 2:
    _native.install_allocator("", "64MiB", 0, lambda: "script.py:7 main")
malloc = ctypes.cast(ctypes.CDLL(_native.__file__).sottovoce_cuda_malloc, ctypes.c_void_p)
text = ctypes.create_string_buffer(4096)
for _ in range(2):
    outcomes = [
        caller.call(malloc, ctypes.c_ssize_t(30 << 20), text, ctypes.c_size_t(len(text)))
        for _ in range(4)
    ]
    print(outcomes)
print(text.value.decode())
"""


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("c++") is None, reason="there is no C++ compiler"
)
@pytest.mark.parametrize("strings", ["new", "old"])
def test_what_does_not_fit_is_thrown_as_pytorchs_own_error(strings: str, tmp_path: Path) -> None:
    source = Path(__file__).with_name("torch_stand_in.cpp")
    for role, name in (("BASE", "libc10.so"), ("CUDA", "libc10_cuda.so"), ("CALLER", "caller.so")):
        needed = [] if role == "BASE" else [str(tmp_path / "libc10.so"), f"-Wl,-rpath,{tmp_path}"]
        layout = f"-D_GLIBCXX_USE_CXX11_ABI={int(strings == 'new')}"
        subprocess.run(
            ["c++", "-std=c++17", "-O1", "-fPIC", "-shared", f"-D{role}", layout, str(source)]
            + [*needed, f"-Wl,-soname,{name}", "-o", str(tmp_path / name)],
            check=True,
        )
    thrown = run_caller(THROWER, str(tmp_path))
    assert thrown.returncode == 0, thrown.stderr
    assert "use_allocator" in thrown.stdout and "[1, 1, 1, 1]" in thrown.stdout
    if STAND_IN is not None:
        thrown = run_caller(THROWER, str(tmp_path), "installed")
        assert thrown.returncode == 0, thrown.stderr
        first, second, text = thrown.stdout.split("\n", 2)
        assert (first, second) == ("[0, 0, 1, 1]", "[1, 1, 1, 1]")
        assert "Tried to allocate" in text and "script.py:7 main" in text


#: The same trace by PyTorch itself, and then more than there is.
PYTORCH = """
import importlib.util, json, sys
conf, memory, path = sys.argv[1:]
if importlib.util.find_spec("torch") is None:
    sys.exit("PyTorch is not installed")
import torch
if not torch.cuda.is_available():
    sys.exit("PyTorch has no device")
import sottovoce.torch
sottovoce.torch.use_allocator(conf, memory, owners=True)

def tensor(size):
    return torch.empty(size, dtype=torch.uint8, device="cuda")

live = {}
for line in open(path):
    kind, *rest = line.split()
    if kind == "a":
        live[rest[0]] = tensor(int(rest[1]))
    elif kind == "f":
        del live[rest[0]]
    elif rest[0] == "clear":
        torch.cuda.empty_cache()
report = sottovoce.torch.report().statistics
try:
    more = [tensor(1 << 28) for _ in range(64)]
except torch.OutOfMemoryError as error:
    print(json.dumps({"report": report, "error": str(error)}))
"""


@pytest.mark.parametrize("conf", ["", "expandable_segments:True", "roundup_power2_divisions:4"])
def test_pytorch_itself_has_the_peaks_of_the_replay_and_its_own_error(
    conf: str, tmp_path: Path
) -> None:
    trace = tmp_path / "run.trace"
    trace.write_text(TRACE)
    called = run_caller(PYTORCH, conf, "1GiB", str(trace))
    told = called.stderr.splitlines()
    if told and told[-1].startswith("PyTorch "):
        pytest.skip(told[-1])
    assert called.returncode == 0, called.stderr
    answer = json.loads(called.stdout)
    report = answer["report"]
    predicted = sottovoce.memory.replay(trace, conf=conf, device_memory="1GiB")
    assert report["reserved_bytes"]["all"]["peak"] == predicted.peak_reserved
    assert report["allocated_bytes"]["all"]["peak"] == predicted.peak_allocated
    assert report["requested_bytes"]["all"]["peak"] == predicted.peak_requested
    assert report["reserved_bytes"]["all"]["current"] == predicted.end_reserved
    assert "Tried to allocate 256.00 MiB" in answer["error"]
    assert "Largest owners" in answer["error"] and "tensor" in answer["error"]


def test_options_that_pytorch_would_refuse_are_refused_by_name(
    torch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without `init`: once that was called, PyTorch takes no other allocator.
    monkeypatch.setattr(torch, "cuda", types.SimpleNamespace())
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
