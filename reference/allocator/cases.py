"""Makes rows of crates/memory/tests/allocator_cases/cases.tsv: traces through PyTorch's own caching allocator.

usage: cases.py FOLDER < requests.tsv > cases.tsv

FOLDER holds the traces. Each line of requests.tsv names one run: file, configuration (`default` or PYTORCH_CUDA_ALLOC_CONF),
device bytes, memory fraction or `-`, clear the cache at every n-th chunk or `-` (the first five columns of cases.tsv, so an
existing table may be fed in again). Needs PyTorch 2.6 with CUDA and a device, real or stood in for; a stand-in takes its size
from FAKE_CUDA_MEM, a real device must have the device bytes asked for.

A trace is text: `a ID BYTES TAG [stream=N]`, `f ID`, `u ID STREAM` (also used on that stream), `m clear`, `m chunk ...`. An
allocation that fails is counted and skipped, its free too. Every run is a process of its own: the allocator cannot be reset.
"""
import os
import sys

import torch

COLUMNS = {
    "peak_requested": "requested_bytes.all.peak",
    "peak_allocated": "allocated_bytes.all.peak",
    "peak_reserved": "reserved_bytes.all.peak",
    "end_allocated": "allocated_bytes.all.current",
    "end_reserved": "reserved_bytes.all.current",
    "retries": "num_alloc_retries",
    "ooms": "num_ooms",
    "driver_allocs": "num_device_alloc",
    "driver_frees": "num_device_free",
    "active_peak": "active_bytes.all.peak",
    "inactive_split_peak": "inactive_split_bytes.all.peak",
    "segments_peak": "segment.all.peak",
    "oversize_allocations_peak": "oversize_allocations.peak",
}


def streams_of(events):
    """Streams 0, 1, ... in the order in which the allocator sorts them."""
    count = 1 + max(
        [int(e[4].removeprefix("stream=")) for e in events if e[0] == "a" and len(e) > 4]
        + [int(e[2]) for e in events if e[0] == "u"]
        + [0]
    )
    others = sorted((torch.cuda.Stream() for _ in range(count - 1)), key=lambda s: s.cuda_stream)
    return [torch.cuda.default_stream(), *others]


def run(path, fraction, clear_every):
    torch.cuda.init()
    if fraction is not None:
        torch.cuda.set_per_process_memory_fraction(fraction)
    with open(path) as trace:
        events = [line.split() for line in trace if line.strip()]
    streams = streams_of(events)
    live, chunks = {}, 0
    for event in events:
        match event:
            case ["a", name, size, _, *stream]:
                index = int(stream[0].removeprefix("stream=")) if stream else 0
                try:
                    with torch.cuda.stream(streams[index]):
                        live[name] = torch.empty(int(size), dtype=torch.uint8, device="cuda")
                except torch.OutOfMemoryError:
                    pass
            case ["f", name]:
                live.pop(name, None)
            case ["u", name, stream]:
                if name in live:
                    live[name].record_stream(streams[int(stream)])
            case ["m", "clear", *_]:
                torch.cuda.empty_cache()
            case ["m", "chunk", *_]:
                chunks += 1
                if clear_every and chunks % clear_every == 0:
                    torch.cuda.empty_cache()
    statistics = torch.cuda.memory_stats()
    return [str(statistics[name]) for name in COLUMNS.values()]


def main():
    folder = sys.argv[1]
    keys = ["file", "config", "device_bytes", "memory_fraction", "clear_every_chunk"]
    print(*keys, *COLUMNS, sep="\t", flush=True)
    for line in sys.stdin:
        cells = line.rstrip("\n").split("\t")[:5]
        if cells[0] == "file":
            continue
        name, conf, device_bytes, fraction, clear = cells
        process = os.fork()
        if process == 0:
            os.environ["FAKE_CUDA_MEM"] = device_bytes
            os.environ.pop("PYTORCH_CUDA_ALLOC_CONF", None)
            if conf != "default":
                os.environ["PYTORCH_CUDA_ALLOC_CONF"] = conf
            figures = run(
                os.path.join(folder, name),
                None if fraction == "-" else float(fraction),
                None if clear == "-" else int(clear),
            )
            print(*cells, *figures, sep="\t", flush=True)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if status:
            sys.exit(f"{name} {conf}: PyTorch stopped with status {status}")


if __name__ == "__main__":
    main()
