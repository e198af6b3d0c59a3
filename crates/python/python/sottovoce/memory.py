"""Tools for anyone with an out-of-memory error of PyTorch's: traces of allocations in, answers out.

A trace is a file, text or a snapshot of PyTorch's, plain or gzip, told apart by content; or the
dictionary of ``torch.cuda.memory._snapshot()`` itself. No GPU and no PyTorch is needed.

>>> advice = sottovoce.memory.advise("snapshot.pickle")
>>> advice.recommendation.line
"export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128"

Sizes are bytes. What a tool has to note beside its answer goes to standard error.
"""

from __future__ import annotations

import html
import json
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _checks, _native
from .errors import ArgumentError

__all__ = [
    "Advice",
    "Check",
    "Conversion",
    "Explanation",
    "Owners",
    "Plan",
    "Recommendation",
    "Replay",
    "Share",
    "Tried",
    "advise",
    "check",
    "convert",
    "plan",
    "replay",
]

Trace = str | os.PathLike[str] | Mapping[str, Any]
"""A trace's file, or the dictionary of ``torch.cuda.memory._snapshot()``."""

#: Pickles of this protocol are what PyTorch writes, too.
_PICKLE_PROTOCOL = 4
#: Settings and owners that a notebook shows.
_ROWS_SHOWN = 12


@dataclass(frozen=True)
class Replay:
    """What a trace takes under a configuration."""

    events: int
    """Events, markers included."""
    peak_requested: int
    """Most bytes asked for at once."""
    peak_allocated: int
    """Most bytes handed out at once, rounded."""
    peak_reserved: int
    """Most bytes held from the driver at once."""
    end_allocated: int
    """Bytes handed out at the end."""
    end_reserved: int
    """Bytes held from the driver at the end."""
    fragmentation_peak: float
    """Largest (reserved - allocated) / reserved at the trace's chunk marks, or at the peak."""
    retries: int
    """Allocations that had the whole cache given back first."""
    ooms: int
    """Allocations that failed."""
    refused_again: int
    """Requests that failed when the trace was recorded and fail here too."""
    let_in: int
    """Requests that failed when the trace was recorded and are let in here."""
    driver_allocs: int
    """Segments got from the driver."""
    driver_frees: int
    """Segments given back."""
    ns_per_event: float
    """Mean time of an event in the pool, nanoseconds."""
    recorded: dict[str, Any] | None = field(default=None, repr=False)
    """What a snapshot had recorded."""


@dataclass(frozen=True)
class Tried:
    """A setting that was tried."""

    configuration: str
    """The settings in PyTorch's syntax; empty for the defaults."""
    clear_every_chunk: int | None
    """The program empties the cache at every so many chunk marks."""
    today: bool
    """Whether these are today's settings."""
    peak_reserved: int
    """Most bytes held from the driver."""
    end_reserved: int
    """Bytes held in the end."""
    fragmentation_peak: float
    """Largest fragmentation."""
    retries: int
    """Allocations that had the whole cache given back first."""
    ooms: int
    """Allocations that failed."""
    refused_again: int
    """Requests that failed when the trace was recorded and fail under these settings too."""
    let_in: int
    """Requests that failed when the trace was recorded and are let in under these settings."""
    driver_calls: int
    """Calls to the driver, each of which stalls the device."""
    versus_today: int
    """Peak less today's; negative is better."""
    versus_lower_bound: float
    """Peak divided by the live bytes that no allocator can do without."""


@dataclass(frozen=True)
class Recommendation:
    """What to do."""

    line: str | None
    """The line for a shell, or ``None`` to leave things as they are."""
    saves: int
    """Bytes less at the peak than today."""
    reason: str
    """Why."""
    program: str | None
    """What no option does and a change of the program would."""


@dataclass(frozen=True)
class Share:
    """What an owner has."""

    name: str
    """The owner: a tag, or the phase in which the bytes were allocated."""
    bytes: int
    """Its live bytes."""
    count: int
    """Its live allocations."""


@dataclass(frozen=True)
class Owners:
    """Who owns the bytes at the peak."""

    event: int
    """Events before the peak is reached."""
    phase: str
    """The phase that it falls into; empty without markers."""
    bytes: int
    """Live bytes, as requested."""
    by_tag: tuple[Share, ...]
    """By owner, most first."""
    by_phase: tuple[Share, ...]
    """By the phase in which they were allocated, most first."""


@dataclass(frozen=True)
class Advice:
    """What a trace would take under other settings, and what no setting can change."""

    events: int
    """Events in the trace."""
    device_bytes: int
    """Bytes of the device that the settings were tried on."""
    lower_bound: int
    """Most bytes live at once: no allocator needs less."""
    tried: tuple[Tried, ...]
    """The settings tried, best first."""
    at_peak: Owners
    """Who owns the bytes at the peak."""
    beyond_options: int
    """Bytes of today's peak that no option can save."""
    recommendation: Recommendation
    """What to do."""
    recorded: dict[str, Any] | None = field(default=None, repr=False)
    """What a snapshot had recorded."""
    svg: str = field(default="", repr=False)
    """Live and reserved bytes over the trace, drawn."""

    def _repr_html_(self) -> str:
        """The drawing, the recommendation and the settings, for a notebook."""
        rows = "".join(
            f"<tr><td>{html.escape(_name(tried))}</td><td>{_mebibytes(tried.peak_reserved)}</td>"
            f"<td>{tried.versus_today / 2**20:+,.1f} MiB</td><td>{tried.ooms}</td></tr>"
            for tried in self.tried[:_ROWS_SHOWN]
        )
        line = self.recommendation.line
        code = f"<pre>{html.escape(line)}</pre>" if line else ""
        return (
            f"{self.svg}<p>{html.escape(self.recommendation.reason)}</p>{code}"
            "<table><tr><th>settings</th><th>peak reserved</th><th>against today's</th>"
            f"<th>out of memory</th></tr>{rows}</table>"
        )


@dataclass(frozen=True)
class Plan:
    """How small an arena the allocations of a trace fit into."""

    lower_bound: int
    """The most that is live at once."""
    planned_peak: int
    """Bytes of the arena that was found."""
    proven_bytes: int
    """No plan needs less. If it equals the planned peak, no plan is better."""
    seconds: float
    """Seconds that finding it took."""
    events: int
    """Events of the trace."""
    lifetimes: int
    """Allocations that were placed."""
    alignment: int
    """Offsets are multiples of this."""
    capacity: int | None = None
    """The size that it was to fit."""
    fits: bool | None = None
    """Whether it does, where a capacity was given."""
    smallest_subset: tuple[str, ...] = ()
    """Where it does not: a smallest set of allocations that cannot be placed."""


@dataclass(frozen=True)
class Explanation:
    """What one option of a configuration does."""

    option: str
    """Its name."""
    value: str
    """Its value."""
    offset: int
    """Where it begins in the configuration, bytes."""
    verdict: str
    """works, does_nothing, harms, unsupported, misread, misspelt or rejected."""
    explanation: str
    """Why."""
    suggestion: str | None
    """What to write instead."""
    since: str | None
    """The first version of PyTorch that has it."""
    measured: dict[str, Any] | None
    """A measurement of it."""


@dataclass(frozen=True)
class Check:
    """What the options of a configuration do."""

    conf: str
    """The configuration."""
    platform: str
    """Where PyTorch runs."""
    valid: bool
    """Whether PyTorch would start with it."""
    error: dict[str, Any] | None
    """Else its message, and where."""
    options: tuple[Explanation, ...]
    """One for each option."""


@dataclass(frozen=True)
class Conversion:
    """A trace that was written in another format."""

    events: int
    """Events written."""
    format: str
    """text or snapshot."""
    compressed: bool
    """Whether it is gzip."""
    bytes: int
    """The file's size."""


def replay(
    trace: Trace,
    *,
    conf: str | None = None,
    device_memory: int | str | None = None,
    clear_every_chunk: int | None = None,
    device: int | None = None,
) -> Replay:
    """Runs a trace through PyTorch's caching allocator, byte for byte.

    Parameters
    ----------
    trace
        The trace.
    conf
        Options in the syntax of ``PYTORCH_CUDA_ALLOC_CONF``; by default a snapshot's own, else
        those of the environment.
    device_memory
        Memory of the device, as bytes or as text such as ``"8GiB"``.
    clear_every_chunk
        Empty the cache at every so many ``m chunk`` marks.
    device
        Of a snapshot of several devices, the one to look at; by default that which held most.

    Raises :class:`~sottovoce.ToolError` for what is no trace or no configuration.
    """
    with _file(trace) as path:
        answer = _run(
            "replay",
            path,
            conf=_text("conf", conf),
            device_memory=_size("device_memory", device_memory),
            clear_every_chunk=_number("clear_every_chunk", clear_every_chunk, 1),
            device=_number("device", device),
        )
    return Replay(**answer)


def advise(
    trace: Trace,
    *,
    device_memory: int | str | None = None,
    device: int | None = None,
    plot: str | os.PathLike[str] | None = None,
) -> Advice:
    """Finds which allocator settings would help a trace, and what none can save.

    ``plot`` is an ``.svg`` or ``.html`` file to draw into; the other parameters are those of
    :func:`replay`. In a notebook the answer shows itself.
    """
    with _file(trace) as path, tempfile.TemporaryDirectory() as folder:
        drawing = os.path.join(folder, "advice.svg")
        arguments = {
            "device_memory": _size("device_memory", device_memory),
            "device": _number("device", device),
        }
        answer = _run("advise", path, plot=drawing, **arguments)
        svg = Path(drawing).read_text(encoding="utf-8")
        if plot is not None:
            target = _checks.path("plot", plot)
            if target.lower().endswith(".svg"):
                Path(target).write_text(svg, encoding="utf-8")
            else:
                _run("advise", path, plot=target, **arguments)
    owners = answer.pop("at_peak")
    for grouping in ("by_tag", "by_phase"):
        owners[grouping] = tuple(Share(**share) for share in owners[grouping])
    return Advice(
        tried=tuple(Tried(**tried) for tried in answer.pop("tried")),
        at_peak=Owners(**owners),
        recommendation=Recommendation(**answer.pop("recommendation")),
        svg=svg,
        **answer,
    )


def plan(
    trace: Trace,
    *,
    begin: str | None = None,
    capacity: int | str | None = None,
    alignment: int | None = None,
    device: int | None = None,
) -> Plan:
    """Finds how small an arena the allocations of a trace fit into.

    Parameters
    ----------
    trace
        The trace, or a list of buffers (``id,lower,upper,size``).
    begin
        Plan only what is allocated after the first marker that begins with this text.
    capacity
        Look for a plan that fits this size, and explain if none does.
    alignment
        Offsets are multiples of this many bytes.
    device
        As for :func:`replay`.
    """
    with _file(trace) as path:
        answer = _run(
            "plan",
            path,
            **{"from": _text("begin", begin)},
            capacity=_size("capacity", capacity),
            alignment=_number("alignment", alignment, 1),
            device=_number("device", device),
        )
    answer["smallest_subset"] = tuple(answer.get("smallest_subset", ()))
    return Plan(**answer)


def check(conf: str, platform: str = "linux") -> Check:
    """Explains each option of a configuration: without effect, harmful, unsupported, misspelt.

    Parameters
    ----------
    conf
        Options in the syntax of ``PYTORCH_CUDA_ALLOC_CONF``, or a line that sets them.
    platform
        Where PyTorch runs: linux, windows, wsl, vgpu, jetson or cpu.
    """
    text = _checks.text("conf", conf)
    answer = _run("check", text, platform=_text("platform", platform))
    options = tuple(Explanation(**option) for option in answer.pop("options"))
    return Check(options=options, **answer)


def convert(
    trace: Trace,
    out: str | os.PathLike[str],
    *,
    to: str | None = None,
    device: int | None = None,
) -> Conversion:
    """Writes a trace in another format.

    Parameters
    ----------
    trace
        The trace.
    out
        Where to write; its name says the format: ``.pickle`` and ``.pkl`` are PyTorch's snapshot,
        anything else is text; ``.gz`` behind it compresses.
    to
        ``"text"`` or ``"snapshot"``, whatever ``out`` is called.
    device
        As for :func:`replay`.
    """
    target = _checks.path("out", out)
    with _file(trace) as path:
        number = _number("device", device)
        return Conversion(**_run("convert", path, target, to=_text("to", to), device=number))


def _run(tool: str, *values: str, **options: str | None) -> dict[str, Any]:
    """Asks the command line's own tool."""
    arguments = ["sottovoce", "memory", tool, "--json"]
    for name, value in options.items():
        if value is not None:
            arguments.append(f"--{name.replace('_', '-')}={value}")
    answer = json.loads(_native.run_tool([*arguments, "--", *values]))
    assert isinstance(answer, dict)
    return answer


@contextmanager
def _file(trace: object) -> Iterator[str]:
    """A trace's file; for a snapshot in memory one that is there for the while."""
    if not isinstance(trace, Mapping):
        if not isinstance(trace, (str, os.PathLike)):
            raise _checks.wrong_type("trace", trace, "a path or a snapshot's dictionary")
        yield _checks.path("trace", trace)
        return
    if "segments" not in trace:
        raise ArgumentError(
            "argument trace: a snapshot is the dictionary of torch.cuda.memory._snapshot(), "
            "which has segments",
            argument="trace",
        )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "snapshot.pickle")
        with open(path, "wb") as file:
            pickle.dump(dict(trace), file, protocol=_PICKLE_PROTOCOL)
        yield path


def _text(argument: str, value: object) -> str | None:
    return None if value is None else _checks.text(argument, value)


def _number(argument: str, value: object, least: int = 0) -> str | None:
    return None if value is None else str(_checks.count(argument, value, least))


def _size(argument: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(_checks.count(argument, value))


def _name(tried: Tried) -> str:
    name = tried.configuration or "default"
    if tried.clear_every_chunk:
        name += f", cache emptied every {tried.clear_every_chunk} chunks"
    return f"{name} (today)" if tried.today else name


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
