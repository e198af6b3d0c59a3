"""Streaming Chatterbox text-to-speech that keeps a memory promise.

>>> import sottovoce
>>> engine = sottovoce.Engine("pico", memory="256MiB")
>>> for chunk in engine.stream("Every byte has an owner."):
...     play(chunk.samples)  # float32, 24,000 a second
>>> engine.memory_report().reserved_bytes

``sottovoce.chatterbox`` has the classes of the reference, ``sottovoce.memory`` the tools for
allocation traces, ``sottovoce.ray`` what needs more than one machine, ``python -m sottovoce`` is the
command line.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from ._native import __version__
from .engine import SAMPLE_RATE, Chunk, Engine, Stream, Voice, configure_memory_management
from .errors import (
    ArgumentError,
    ArgumentTypeError,
    BudgetError,
    BusyError,
    ClosedError,
    DeviceError,
    FaultError,
    FileError,
    ForkedError,
    MissingPackageError,
    ModelError,
    OutOfMemoryError,
    RecordingError,
    SottovoceError,
    StoppedError,
    SynthesisError,
    TextError,
    ToolError,
    UnsupportedError,
    VoiceError,
)
from .metrics import (
    ChunkMetrics,
    EngineMetrics,
    MemoryMetrics,
    MemoryPlan,
    MemoryReport,
    WordTime,
)
from .policy import MemoryProfile, StreamingMemoryManager

__all__ = [
    "SAMPLE_RATE",
    "ArgumentError",
    "ArgumentTypeError",
    "BudgetError",
    "BusyError",
    "Chunk",
    "ChunkMetrics",
    "ClosedError",
    "DeviceError",
    "Engine",
    "EngineMetrics",
    "FaultError",
    "FileError",
    "ForkedError",
    "MemoryMetrics",
    "MemoryPlan",
    "MemoryProfile",
    "MemoryReport",
    "MissingPackageError",
    "ModelError",
    "OutOfMemoryError",
    "RecordingError",
    "SottovoceError",
    "StoppedError",
    "Stream",
    "StreamingMemoryManager",
    "SynthesisError",
    "TextError",
    "ToolError",
    "UnsupportedError",
    "Voice",
    "VoiceError",
    "WordTime",
    "__version__",
    "configure_memory_management",
]

#: Imported when they are first named.
_MODULES = ("chatterbox", "memory", "ray", "testing", "torch")


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
