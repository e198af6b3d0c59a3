"""What the engine tells about its work and its memory.

Sizes are bytes and times are seconds, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

__all__ = [
    "ChunkMetrics",
    "EngineMetrics",
    "MemoryMetrics",
    "MemoryPlan",
    "MemoryReport",
    "WordTime",
]

_Figures = TypeVar("_Figures")


def of_engine(kind: type[_Figures], figures: Mapping[str, Any]) -> _Figures:
    """The figures of the engine's that ``kind`` has; lists become tuples."""
    known = {one.name for one in fields(kind)} & figures.keys()  # type: ignore[arg-type]
    values = {name: figures[name] for name in known}
    return kind(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    )


@dataclass(frozen=True)
class WordTime:
    """A written word, and when it is heard."""

    word: str
    """The word as written, without the marks around it."""
    start: float
    """Its beginning, in seconds from the start of the stream's sound."""
    end: float
    """Its end, in seconds from the start of the stream's sound."""
    text_start: int
    """Index of its first character in the text."""
    text_end: int
    """Index of the character after its last one."""


@dataclass(frozen=True)
class ChunkMetrics:
    """How a stream stands after a chunk."""

    chunk_count: int
    """Chunks so far, this one included."""
    latency_to_first_chunk: float
    """Seconds from the call to the first samples."""
    uninterrupted_after: float
    """Seconds from the call after which playback could have begun and not stopped up to here."""
    total_generation_time: float
    """Seconds from the call to this chunk."""
    total_audio_duration: float
    """Seconds of speech so far."""
    rtf: float
    """Seconds of work a second of speech."""
    text_tokens: int
    """Tokens of the text, all sentences together."""
    tokens: int
    """Speech tokens so far, 25 a second."""
    run_ons: int
    """Sentences so far that were ended because speech looped or ran on after their text."""
    memory_allocated: int
    """Bytes in use now."""
    memory_reserved: int
    """Bytes held from the system now."""
    memory_reserved_peak: int
    """The most bytes ever held from the system."""
    fragmentation: float
    """(reserved - allocated) / reserved."""
    actions: tuple[str, ...] = ()
    """What the memory policy did since the chunk before."""
    warnings: tuple[dict[str, Any], ...] = ()
    """What was passed over or changed in the text read since: line, character, message."""


@dataclass(frozen=True)
class MemoryMetrics:
    """Memory in the figures that people ask for first. Megabytes are 1,048,576 bytes."""

    peak_allocated_mb: float
    """The most that was in use."""
    peak_reserved_mb: float
    """The most that was held from the system."""
    fragmentation_ratio: float
    """(reserved - allocated) / reserved, now."""
    cache_clear_count: int
    """Times that kept memory was given back."""
    gc_collect_count: int
    """Times that what nobody needs was dropped: the engine's caches, or Python's garbage."""
    avg_chunk_memory_mb: float
    """Mean of what was in use when a chunk was done."""
    oom_count: int
    """Allocations that failed for good."""
    retry_count: int
    """Allocations that were tried again after kept memory was given back."""


@dataclass(frozen=True)
class MemoryPlan:
    """What the engine reckoned with when it was loaded, in bytes."""

    precision: str
    """How weights are kept."""
    weights_bytes: int
    """Weights."""
    workspace_bytes: int
    """The one workspace that all streams share."""
    voice_bytes: int
    """One voice, with the keys and values of its prompt."""
    prepared_voice_bytes: int
    """Of that, what a voice takes as long as it is there."""
    stream_bytes: int
    """The worst case of one stream."""
    whole_tokens: int
    """Speech tokens that one pass of the flow takes of a stream that is delivered whole."""
    streams_fit: int
    """Streams that fit together."""
    device_bytes: int = 0
    """What the device's driver takes for itself."""
    listener_bytes: int = 0
    """Of ``stream_bytes``, the speech tokenizer's and those of the recording that it reads, in an
    engine that only changes voices."""
    host: dict[str, int] | None = None
    """What lies on the host, where the device has a memory of its own."""


@dataclass(frozen=True)
class MemoryReport:
    """Where every byte is, at one moment."""

    budget_bytes: int | None
    """What the engine may use in all."""
    allocated_bytes: int
    """Bytes in use."""
    reserved_bytes: int
    """Bytes held from the system or the device."""
    allocated_peak_bytes: int
    """The most bytes ever in use."""
    reserved_peak_bytes: int
    """The most bytes ever held."""
    fragmentation: float
    """(reserved - allocated) / reserved."""
    resident_bytes: int
    """The process's resident size."""
    other_bytes: int
    """What the process uses beyond what the engine holds: Python among it."""
    driver_bytes: int
    """What the device's driver holds for itself."""
    promised_bytes: int
    """Bytes that the budget has promised."""
    out_of_memory_count: int
    """Allocations that failed at first."""
    retry_count: int
    """Allocations that were tried again."""
    driver_calls: int
    """Calls to the system or the driver for memory."""
    owners: tuple[dict[str, Any], ...] = ()
    """Bytes in use by region and tag, largest first."""
    streams: tuple[dict[str, Any], ...] = ()
    """What each stream has and was promised, and how far it is."""
    actions: tuple[dict[str, Any], ...] = ()
    """What was done for memory's sake, and how often."""
    clears: tuple[dict[str, Any], ...] = ()
    """Times that kept memory was given back, by reason."""
    timeline: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """How it went, oldest first; empty without monitoring."""
    host: dict[str, Any] | None = None
    """The host's own books, where the device has a memory of its own."""


@dataclass(frozen=True)
class EngineMetrics:
    """How the work goes, since the engine was loaded."""

    streams_live: int
    """Streams under way."""
    streams_waiting: int
    """Streams in line."""
    streams_finished: int
    """Streams that spoke to their end."""
    streams_cancelled: int
    """Streams that were dropped."""
    streams_failed: int
    """Streams that ended with an error."""
    streams_refused: int
    """Requests that were turned away."""
    chunks: int
    """Chunks spoken."""
    chunks_together: int
    """Chunks that were rendered in one pass with those of other streams, as cards do."""
    audio_seconds: float
    """Seconds of speech."""
    busy_seconds: float
    """Seconds of work."""
    run_ons: int
    """Sentences that were ended because speech looped or ran on after their text."""
    out_of_memory: int
    """Times that memory ran short."""
    first_audio: dict[str, Any] = field(repr=False)
    """Seconds from call to first sound: ``buckets`` counts up to each of ``bounds`` and one above all,
    and ``sum_seconds``."""
    uninterrupted: dict[str, Any] = field(repr=False)
    """Seconds from call to playback without a gap, likewise."""
    chunk_latency: dict[str, Any] = field(repr=False)
    """Seconds of work for a chunk, likewise."""

    @property
    def rtf(self) -> float:
        """Seconds of work a second of speech."""
        return self.busy_seconds / self.audio_seconds if self.audio_seconds else 0.0
