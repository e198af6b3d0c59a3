"""The engine: a model, its voices, and the streams that speak."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _native
from ._speaking import Speaking
from .errors import ClosedError
from .metrics import (
    ChunkMetrics,
    EngineMetrics,
    MemoryMetrics,
    MemoryPlan,
    MemoryReport,
    WordTime,
    of_engine,
)
from .policy import MemoryProfile, StreamingMemoryManager

if TYPE_CHECKING:
    import asyncio

__all__ = ["Chunk", "Engine", "SAMPLE_RATE", "Stream", "Voice", "configure_memory_management"]

SAMPLE_RATE: int = _native.SAMPLE_RATE
"""Samples a second of everything that is spoken: 24,000."""

_Any = TypeVar("_Any")

#: Engines that are loaded, and what :func:`configure_memory_management` set for those to come.
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_defaults: dict[str, Any] = {}


@dataclass(frozen=True, eq=False)
class Chunk:
    """A piece of speech."""

    samples: NDArray[np.float32]
    """Mono samples, float32, shape ``[n]``, nominally from -1 to 1, at 24,000 a second."""
    metrics: ChunkMetrics
    """How the stream stood when the piece was done."""
    sample_rate: int = SAMPLE_RATE
    """Samples a second."""
    words: tuple[WordTime, ...] = ()
    """Words that begin in it, where ``word_times`` was asked for. A word whose end is not known yet
    comes with a later chunk."""

    @property
    def duration(self) -> float:
        """Seconds of speech."""
        return len(self.samples) / self.sample_rate


class Voice:
    """Everything derived from a recording of a speaker. It belongs to the engine that made it."""

    def __init__(self, native: _native.Voice) -> None:
        self._native = native

    @property
    def name(self) -> str:
        """The voice's name or file."""
        return self._native.name

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the voice to a ``.safetensors`` file that :meth:`Engine.voice` takes.

        Raises :class:`~sottovoce.VoiceError` for a voice without a recording behind it, such as
        that of random weights, and :class:`~sottovoce.FileError` if the file cannot be written.
        """
        self._native.save(_checks.path("path", path))

    def __repr__(self) -> str:
        return f"<sottovoce.Voice {self.name!r}>"


class Stream(Iterator[Chunk], AsyncIterator[Chunk]):
    """An utterance under way: an iterator of :class:`Chunk`, for ``for`` and for ``async for``.

    Chunks come as they are made, the first one early. Dropping or closing the stream ends the
    utterance and gives back what it holds; so does leaving its ``with`` block. Ctrl-C ends it too.
    """

    def __init__(self, native: _native.Stream, manager: StreamingMemoryManager | None) -> None:
        self._native = native
        self._manager = manager
        self._waiting = _Waiting()
        self._first_at: float | None = None
        self._seconds = 0.0

    @property
    def id(self) -> int:
        """The stream's number, as :attr:`MemoryReport.streams` has it."""
        return self._native.id

    @property
    def options_without_effect(self) -> list[str]:
        """Names of options that were given and do nothing with this model."""
        return self._native.options_without_effect

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Chunk:
        self._idle()
        chunk = self._chunk(self._native.next())
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Chunk:
        # Whoever awaits has imported it; others are spared its memory.
        import asyncio

        self._idle()
        loop = asyncio.get_running_loop()
        while True:
            woken = self._waiting.future(loop)
            ready, spoken = self._native.poll(self._waiting.wake)
            if ready:
                break
            await woken
        # The engine wakes whoever asked last, who may have been cancelled: others ask again.
        self._waiting.wake()
        chunk = self._chunk(spoken)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def push_text(self, piece: str) -> None:
        """Adds a piece of text, cut anywhere, to a stream of :meth:`Engine.open_stream`.

        Each sentence is spoken as soon as its end is sure. Raises :class:`~sottovoce.TextError` if
        the text was finished, or more of it waits than one stream takes.
        """
        self._native.push_text(_checks.text("piece", piece))

    def flush(self) -> None:
        """Has what was pushed spoken without waiting for the end of its sentence."""
        self._native.flush()

    def finish(self) -> None:
        """Ends the text: the stream ends when it is spoken."""
        self._native.finish()

    @property
    def waiting_characters(self) -> int:
        """Characters that were pushed and not taken yet."""
        return self._native.waiting_characters

    def close(self) -> None:
        """Ends the utterance and gives back what it holds. Another thread or task may do this, while
        one waits for a chunk."""
        self._native.close()
        self._waiting.wake()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sottovoce.Stream {self.id}>"

    def _chunk(
        self, spoken: tuple[NDArray[np.float32], dict[str, Any], list[dict[str, Any]]] | None
    ) -> Chunk | None:
        if spoken is None:
            if self._manager is not None:
                self._manager.idle(float("inf"))
            return None
        samples, figures, words = spoken
        if self._first_at is None:
            self._first_at = time.perf_counter()
        self._seconds += len(samples) / SAMPLE_RATE
        if self._manager is not None:
            self._manager.chunk_done()
        return Chunk(
            samples,
            of_engine(ChunkMetrics, figures),
            words=tuple(WordTime(**word) for word in words),
        )

    def _idle(self) -> None:
        """The reader is back for more: a moment for Python's garbage, if there is time."""
        if self._manager is not None and self._first_at is not None:
            self._manager.idle(self._seconds - (time.perf_counter() - self._first_at))


class _Waiting:
    """Tasks that wait for a stream's next chunk. It does not refer to the stream, which the engine's
    waker would keep alive."""

    def __init__(self) -> None:
        self._futures: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def future(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """What a task awaits; done once there may be a chunk."""
        woken: asyncio.Future[None] = loop.create_future()
        self._futures.append((loop, woken))
        return woken

    def wake(self) -> None:
        """Called from any thread when there may be a chunk, or the stream was closed."""
        waiting, self._futures = self._futures, []
        for loop, woken in waiting:
            # A loop that was closed has nobody to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, woken)


def _finish(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


class Engine(Speaking):
    """A loaded model that speaks within the memory that it may use.

    It is for any number of threads, and for the process that loaded it: a forked child gets
    :class:`~sottovoce.ForkedError`. Close it, or use it in a ``with`` block, to have all its memory
    back at once; else it goes with the last object of it.

    >>> with sottovoce.Engine("pico", memory="256MiB") as engine:
    ...     for chunk in engine.stream("Every byte has an owner."):
    ...         play(chunk.samples)
    """

    def _load(
        self,
        model: str | os.PathLike[str],
        options: dict[str, Any],
        memory_manager: StreamingMemoryManager | None,
    ) -> None:
        self._manager = _manager(memory_manager)
        if self._manager is not None and options["cache_interval"] is None:
            options["cache_interval"] = self._manager.chunk_interval
        options["profile"] = _plain(options["profile"])
        self._model = _checks.path("model", model)
        self._native = _native.Engine(self._model, _given(**options))
        if _defaults:
            self.configure_memory_management(**_defaults)
        _engines.add(self)

    @property
    def sample_rate(self) -> int:
        """Samples a second of everything that is spoken: 24,000."""
        return SAMPLE_RATE

    @property
    def model(self) -> str:
        """The model's name or folder."""
        return self._model

    @property
    def device(self) -> str:
        """What computes."""
        return self._native.device_name()

    @property
    def device_note(self) -> str | None:
        """Why the CPU computes although ``device="auto"`` would have taken a CUDA device."""
        return self._native.device_note()

    @property
    def streams_max(self) -> int:
        """Streams that may be under way together."""
        return self._native.streams_max()

    @property
    def options_without_effect(self) -> list[str]:
        """Names of options that the engine was loaded with and that do nothing here."""
        return self._native.options_without_effect()

    @property
    def closed(self) -> bool:
        """Whether the engine speaks no longer."""
        return not self._native.is_alive()

    def voice(
        self,
        source: str | os.PathLike[str] | bytes | ArrayLike | None = None,
        *,
        sample_rate: int | None = None,
    ) -> Voice:
        """Makes a voice ready; do it once, and give it to every stream.

        Parameters
        ----------
        source
            ``None`` for the model's own voice; a name prepared with ``sottovoce voice prepare``; a
            prepared voice's file (``.safetensors``, or the reference's ``conds.pt``); a recording's
            file, or its bytes: wav, flac, mp3, ogg and others; or an array of samples from -1 to 1,
            shape ``[n]``, ``[channels, n]`` or ``[n, channels]``, of float32, float64, int16, int32
            or uint8, with its ``sample_rate``.
        sample_rate
            Samples a second, for an array.

        Raises
        ------
        VoiceError
            It is not known, or cannot be used with this model: pico has only its own voice.
        ArgumentError
            The array is none of samples; ``argument`` is ``"source"`` or ``"sample_rate"``.
        """
        if source is None:
            return Voice(self._native.voice(None))
        if isinstance(source, (str, os.PathLike)):
            return Voice(self._native.voice(_checks.path("source", source)))
        if isinstance(source, (bytes, bytearray, memoryview)):
            return Voice(self._native.voice_of_bytes("recording", bytes(source)))
        if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
            recording = _checks.recording("source", source, sample_rate)
            return Voice(self._native.voice_of_bytes("samples", recording))
        raise _checks.wrong_type("source", source, "a name, a path, bytes or an array of samples")

    def memory_report(self) -> MemoryReport:
        """Where every byte is."""
        return of_engine(MemoryReport, self._native.memory_report())

    def metrics(self) -> MemoryMetrics:
        """Memory in the figures that people ask for first."""
        figures = self._native.metrics()["memory"]
        if self._manager is not None:
            figures["gc_collect_count"] += self._manager.gc_collect_count
        return of_engine(MemoryMetrics, figures)

    def engine_metrics(self) -> EngineMetrics:
        """How the work goes, since the engine was loaded."""
        return of_engine(EngineMetrics, self._native.metrics())

    def plan(self) -> MemoryPlan:
        """What was reckoned with when the engine was loaded."""
        return of_engine(MemoryPlan, self._native.plan())

    def trim(self) -> int:
        """Gives memory that is kept but not used back to the system; the bytes given back."""
        return self._native.trim()

    def configure_memory_management(
        self,
        profile: MemoryProfile | str | None = None,
        enable_monitoring: bool | None = None,
        cache_interval: int | None = None,
        memory_manager: StreamingMemoryManager | None = None,
    ) -> None:
        """Changes how eagerly memory goes back, while running. What is ``None`` stays as it is.

        Parameters
        ----------
        profile
            A :class:`~sottovoce.MemoryProfile`, or its name.
        enable_monitoring
            Whether the memory timeline is kept.
        cache_interval
            Chunks between two looks at kept memory.
        memory_manager
            For the streams that begin from now on.
        """
        manager = _manager(memory_manager)
        if manager is not None:
            self._manager = manager
            cache_interval = cache_interval or manager.chunk_interval
        self._native.configure_memory_management(
            _given(
                profile=_plain(profile),
                enable_monitoring=enable_monitoring,
                cache_interval=cache_interval,
            )
        )

    def close(self) -> None:
        """Ends every stream and gives everything back.

        Further calls raise :class:`~sottovoce.ClosedError`.
        """
        self._native.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sottovoce.Engine {self._model!r}>"

    def __reduce__(self) -> Any:
        raise TypeError("an engine cannot be pickled: load one in each process")

    def _stream(
        self,
        text: str | None,
        voice: Voice | str | os.PathLike[str] | None,
        options: dict[str, Any],
    ) -> Stream:
        native = self._native.stream(text, self._ready(voice), _given(**options))
        return Stream(native, self._manager)

    def _change(
        self,
        source: str | os.PathLike[str] | bytes | ArrayLike,
        sample_rate: int | None,
        voice: Voice | str | os.PathLike[str] | None,
        options: dict[str, Any],
    ) -> Stream:
        recording: bytes | None = None
        if isinstance(source, (str, os.PathLike)):
            name = _checks.path("source", source)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            name, recording = "the recording", bytes(source)
        elif hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
            name = "the samples"
            recording = _checks.recording("source", source, sample_rate, seconds_max=None)
        else:
            raise _checks.wrong_type("source", source, "a path, bytes or an array of samples")
        native = self._native.change_voice(name, recording, self._ready(voice), _given(**options))
        return Stream(native, self._manager)

    def _ready(self, voice: Voice | str | os.PathLike[str] | None) -> _native.Voice | None:
        """The voice, made ready if it is named."""
        if voice is None or isinstance(voice, Voice):
            return None if voice is None else voice._native
        if not isinstance(voice, (str, os.PathLike)):
            raise _checks.wrong_type("voice", voice, "a Voice, a name or a path")
        return self.voice(voice)._native


def configure_memory_management(
    profile: MemoryProfile | str | None = None,
    enable_monitoring: bool | None = None,
    cache_interval: int | None = None,
    memory_manager: StreamingMemoryManager | None = None,
) -> None:
    """Configures every engine of the process, those that are loaded and those to come.

    The arguments are those of :meth:`Engine.configure_memory_management`.
    """
    given = _given(
        profile=profile,
        enable_monitoring=enable_monitoring,
        cache_interval=cache_interval,
        memory_manager=memory_manager,
    )
    if profile is not None:
        MemoryProfile(_plain(profile))
    for engine in list(_engines):
        try:
            engine.configure_memory_management(**given)
        except ClosedError:
            continue
    _defaults.update(given)


def _given(**options: Any) -> dict[str, Any]:
    """Those that are not ``None``."""
    return {name: value for name, value in options.items() if value is not None}


def _plain(profile: _Any) -> _Any | str:
    """A profile's name."""
    return profile.value if isinstance(profile, MemoryProfile) else profile


def _manager(manager: object) -> StreamingMemoryManager | None:
    if manager is None or isinstance(manager, StreamingMemoryManager):
        return manager
    raise _checks.wrong_type("memory_manager", manager, "a StreamingMemoryManager")


@atexit.register
def _close_all() -> None:
    """Nothing of an engine may run on while the interpreter ends."""
    process = os.getpid()
    if process != _process:
        return
    for engine in list(_engines):
        engine.close()


_process = os.getpid()
