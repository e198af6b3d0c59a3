"""The engine's caching pool under PyTorch, in place of its own CUDA allocator.

>>> import sottovoce.torch
>>> sottovoce.torch.use_allocator("expandable_segments:True", memory="6GiB")
>>> import torch                                # before anything is on the device
>>> model.to("cuda")
>>> sottovoce.torch.report().reserved_bytes.peak

The pool has PyTorch's rules and PyTorch's options, keeps within a budget, and knows who owns what.
It needs the driver's API only.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from . import _checks, _native
from .errors import MissingPackageError, ToolError

__all__ = ["AllocatorReport", "Gauge", "report", "use_allocator"]

#: Frames of these packages own nothing themselves.
_FRAMEWORK = ("torch", "sottovoce", "functools", "contextlib", "importlib")

_device: int | None = None


@dataclass(frozen=True)
class Gauge:
    """A figure that goes up and down."""

    current: int
    """Now."""
    peak: int
    """At most."""
    allocated: int
    """All that was added."""
    freed: int
    """All that was taken away."""


@dataclass(frozen=True)
class AllocatorReport:
    """The pool's books on a device. Sizes are bytes; names and meanings are PyTorch's."""

    allocated_bytes: Gauge
    """Blocks handed out, rounded."""
    requested_bytes: Gauge
    """Blocks handed out, as asked for."""
    reserved_bytes: Gauge
    """Held from the driver."""
    active_bytes: Gauge
    """Blocks handed out, and those that wait for a stream."""
    inactive_split_bytes: Gauge
    """Free parts of segments."""
    num_alloc_retries: int
    """Allocations that had the whole cache given back first."""
    num_ooms: int
    """Allocations that failed."""
    num_device_alloc: int
    """Segments got."""
    num_device_free: int
    """Segments given back."""
    driver_bytes: int
    """What the driver holds for itself."""
    owners: tuple[dict[str, Any], ...] = ()
    """Who has what, largest first: tag, live_bytes, peak_bytes, live_blocks."""
    statistics: dict[str, Any] = field(default_factory=dict, repr=False)
    """All figures."""


def use_allocator(
    conf: str = "",
    memory: int | str | None = None,
    *,
    device: int = 0,
    owners: bool = False,
) -> None:
    """Installs the pool under PyTorch, for the rest of the process.

    Call it before anything is on a device: PyTorch changes its allocator only until then.

    Parameters
    ----------
    conf
        Options in the syntax of ``PYTORCH_CUDA_ALLOC_CONF``.
    memory
        The most that each device may give, as bytes or as text such as ``"6GiB"``; all that it has
        without it.
    device
        The device that is opened at once; others are when they are first used.
    owners
        Whether each block is booked under the line of the program that asked for it. That takes
        Python's lock for each allocation.

    An allocation that does not fit raises ``torch.OutOfMemoryError`` with the largest owners in its
    text.

    Raises :class:`~sottovoce.ArgumentError` for options that PyTorch would refuse,
    :class:`~sottovoce.DeviceError` without a device, and :class:`~sottovoce.ToolError` if PyTorch's
    own allocator or this one is in use already.
    """
    global _device
    _checks.text("conf", conf)
    size = memory if isinstance(memory, str) or memory is None else str(
        _checks.count("memory", memory)
    )
    number = _checks.count("device", device)
    wants_owners = _checks.switch("owners", owners)
    torch = _torch()
    # Not after torch.cuda.init, which readies PyTorch's own allocator for good. The context that the
    # pool opens is the device's primary one, which PyTorch's runtime takes as well.
    _native.install_allocator(conf, size, number, _owner if wants_owners else None)
    allocator = torch.cuda.memory.CUDAPluggableAllocator(
        _native.__file__, "sottovoce_cuda_malloc", "sottovoce_cuda_free"
    )
    library = ctypes.CDLL(_native.__file__)
    below = allocator.allocator()
    for set_function, function in (
        ("set_record_stream_fn", library.sottovoce_cuda_record_stream),
        ("set_reset_fn", library.sottovoce_cuda_empty_cache),
    ):
        getattr(below, set_function)(ctypes.cast(function, ctypes.c_void_p).value)
    try:
        torch.cuda.memory.change_current_allocator(allocator)
    except RuntimeError as error:
        raise ToolError(
            f"PyTorch's own allocator is in use already ({error}): call use_allocator first"
        ) from error
    _device = number


def report(device: int | None = None) -> AllocatorReport:
    """The pool's books on a device; by default on that of :func:`use_allocator`."""
    number = _device or 0 if device is None else _checks.count("device", device)
    figures: dict[str, Any] = _native.allocator_report(number)
    wanted: dict[str, Any] = {
        name: Gauge(**figures[name]["all"])
        for name in (
            "allocated_bytes",
            "requested_bytes",
            "reserved_bytes",
            "active_bytes",
            "inactive_split_bytes",
        )
    }
    for name in (
        "num_alloc_retries",
        "num_ooms",
        "num_device_alloc",
        "num_device_free",
        "driver_bytes",
    ):
        wanted[name] = figures[name]
    owners = tuple(
        {"tag": usage["owner"]["tag"]}
        | {name: usage[name] for name in ("live_bytes", "peak_bytes", "live_blocks")}
        for usage in figures["owners"]
    )
    return AllocatorReport(**wanted, owners=owners, statistics=figures)


def _owner() -> str:
    """The line of the program that allocates: the innermost outside of PyTorch."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.split(".")[0] not in _FRAMEWORK:
            code = frame.f_code
            return f"{os.path.basename(code.co_filename)}:{frame.f_lineno} {code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "torch"


def _torch() -> Any:
    """PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("install torch: this is an allocator for it") from error
    return torch
