"""The engine: a model, its voices, and the streams that speak."""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _checks, _native
from .errors import ClosedError
from .metrics import ChunkMetrics, EngineMetrics, MemoryMetrics, MemoryPlan, MemoryReport
from .policy import MemoryProfile, StreamingMemoryManager

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
        """Writes the voice to a ``.safetensors`` file from which :meth:`Engine.voice` takes it again.

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
        self._first_at: float | None = None
        self._seconds = 0.0

    @property
    def id(self) -> int:
        """The stream's number, as :attr:`MemoryReport.streams` has it."""
        return self._native.id

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
        self._idle()
        loop = asyncio.get_running_loop()
        while True:
            woken = loop.create_future()
            ready, spoken = self._native.poll(lambda: _wake(loop, woken))  # noqa: B023
            if ready:
                break
            await woken
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
        """Ends the utterance and gives back what it holds. Another thread may do this."""
        self._native.close()

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

    def _chunk(self, spoken: tuple[NDArray[np.float32], dict[str, Any]] | None) -> Chunk | None:
        if spoken is None:
            if self._manager is not None:
                self._manager.idle(float("inf"))
            return None
        samples, figures = spoken
        if self._first_at is None:
            self._first_at = time.perf_counter()
        self._seconds += len(samples) / SAMPLE_RATE
        if self._manager is not None:
            self._manager.chunk_done()
        figures["actions"] = tuple(figures["actions"])
        return Chunk(samples, ChunkMetrics(**figures))

    def _idle(self) -> None:
        """The reader is back for more: a moment for Python's garbage, if there is time."""
        if self._manager is not None and self._first_at is not None:
            self._manager.idle(self._seconds - (time.perf_counter() - self._first_at))


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    """Called from a thread of the engine's when there may be a chunk."""
    loop.call_soon_threadsafe(lambda: None if woken.done() else woken.set_result(None))


class Engine:
    """A loaded model that speaks within the memory that it may use.

    It is for any number of threads, and for the process that loaded it: a forked child gets
    :class:`~sottovoce.ForkedError`. Close it, or use it in a ``with`` block, to have all its memory
    back at once; else it goes with the last object of it.

    >>> with sottovoce.Engine("pico", memory="256MiB") as engine:
    ...     for chunk in engine.stream("Every byte has an owner."):
    ...         play(chunk.samples)

    Parameters
    ----------
    model
        ``"pico"``, the small English voice inside the package; ``"base"``, ``"turbo"`` or
        ``"nano"``, once downloaded (``python -m sottovoce model download nano``); a folder laid out
        as the official ones; or ``"synthetic:base"`` and the like, random weights of full size.
    memory
        What the engine may use in all, as bytes or as text such as ``"1GiB"``; ``None`` for what
        the system has. It is kept, or refused here with the numbers. On a device with a memory of
        its own it is the device's.
    host_memory
        What voices and samples on their way may use on the host beside such a device.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"``, or ``"auto"``: the first CUDA device if the model fits
        there, else the CPU. CUDA is experimental.
    precision
        How weights are kept: ``"f32"``, ``"f16"``, ``"int8"``, ``"q4"``, or ``"auto"``, the finest
        of the last three that fits.
    profile
        How eagerly kept memory goes back, a :class:`~sottovoce.MemoryProfile`.
    threads
        Threads for arithmetic; by default one a core.
    streams_max
        Streams that may be under way together; fewer where ``memory`` holds fewer.
    waiting_max
        Streams that may wait for a place.
    chunk_tokens_max
        Most speech tokens (1/25 s) in a chunk of any stream: the workspace is made for it.
    context_tokens_max
        Most speech tokens before a chunk that any stream sees again.
    key_value_precision
        How T3's keys and values are kept: ``"f32"``, ``"f16"`` or ``"int8"``.
    cache_interval
        Chunks between two looks at kept memory, in place of the profile's own number.
    voices
        The folder of named voices; by default the command line's.
    enable_monitoring
        Whether the memory timeline is kept.
    watermark
        The watermark's weights; with them every stream is marked.
    memory_manager
        Sets ``cache_interval`` and collects Python's garbage when nobody waits for audio.

    Raises
    ------
    ArgumentError
        An argument cannot be used; ``argument`` names it.
    BudgetError
        ``memory`` cannot hold the model; ``needed_bytes`` and ``hint`` say what would do.
    ModelError, FileError
        The model is not there or cannot be used.
    DeviceError
        There is no such device.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "pico",
        *,
        memory: int | str | None = "1GiB",
        host_memory: int | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        profile: MemoryProfile | str = "automatic",
        threads: int | None = None,
        streams_max: int = 8,
        waiting_max: int = 64,
        chunk_tokens_max: int | None = None,
        context_tokens_max: int = 50,
        key_value_precision: str = "f16",
        cache_interval: int | None = None,
        voices: str | os.PathLike[str] | None = None,
        enable_monitoring: bool = True,
        watermark: str | os.PathLike[str] | None = None,
        memory_manager: StreamingMemoryManager | None = None,
    ) -> None:
        manager = _manager(memory_manager)
        if manager is not None and cache_interval is None:
            cache_interval = manager.chunk_interval
        options = _given(
            memory=memory,
            host_memory=host_memory,
            device=device,
            precision=precision,
            profile=_plain(profile),
            threads=threads,
            streams_max=streams_max,
            waiting_max=waiting_max,
            chunk_tokens_max=chunk_tokens_max,
            context_tokens_max=context_tokens_max,
            key_value_precision=key_value_precision,
            cache_interval=cache_interval,
            voices=voices,
            enable_monitoring=enable_monitoring,
            watermark=watermark,
        )
        self._model = _checks.path("model", model)
        self._manager = manager
        self._native = _native.Engine(self._model, options)
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
        """Names of stream options that do nothing with this model."""
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

    def stream(
        self,
        text: str,
        voice: Voice | str | os.PathLike[str] | None = None,
        *,
        speed: float = 1.0,
        exaggeration: float | None = None,
        cfg_weight: float | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        chunk_size: int | None = None,
        context_window: int = 50,
        prompt_tokens: int | None = None,
        flow_steps: int | None = None,
        flow_guided_steps: int | None = None,
        fade_duration: float = 0.02,
        memory_management: bool = True,
        seed: int = 0,
        sentence_tokens_max: int | None = None,
        when_full: str = "wait",
        buffered_chunks_max: int = 4,
    ) -> Stream:
        """Starts to speak ``text``; chunks come from the returned stream as they are made.

        Parameters
        ----------
        text
            What to speak, at most 100,000 characters.
        voice
            A :class:`Voice` of this engine, or what :meth:`voice` takes by name or path; by default
            the model's own.
        speed
            1 as the voice speaks, 2 twice as fast at the same pitch; 0.25 to 4.
        exaggeration
            Emotion, 0 to 2 (base only). ``None``, here and below, is the model's own default.
        cfg_weight
            Weight of classifier-free guidance, 0 to 5 (base only).
        temperature
            Sampling temperature, 0 to 5; 0 always takes the most likely token.
        top_p
            Nucleus: least probability mass kept, 0 to 1.
        top_k
            Most tokens kept (turbo, nano).
        min_p
            Least probability kept, relative to the best, 0 to 1 (base).
        repetition_penalty
            Above 1 makes repeats rarer; 1 to 10.
        chunk_size
            Speech tokens (1/25 s) in a chunk once the stream runs, 1 to 250.
        context_window
            Speech tokens before a chunk that its synthesis sees again, 0 to 500.
        prompt_tokens
            Most tokens of the voice's prompt that a chunk's synthesis sees; all without it.
        flow_steps
            Steps from noise to mel. Fewer are faster and rougher.
        flow_guided_steps
            How many of these steps, from the first on, are guided (base only).
        fade_duration
            Seconds of fade at the very start, 0 to 1.
        memory_management
            Whether the memory policy looks at this stream's chunks.
        seed
            Starts the random numbers: the same seed, text, voice and precision give the same
            samples.
        sentence_tokens_max
            Most speech tokens of one sentence.
        when_full
            When all places are taken: ``"wait"`` in line, or ``"refuse"``.
        buffered_chunks_max
            Chunks that may wait for the reader before the stream pauses, 1 to 1000.

        Raises
        ------
        ArgumentError
            An option is out of range, or the text has nothing to speak; ``argument`` names it.
        BusyError
            All places are taken and the line is full; ``retry_after`` says when to try again.
        """
        return self._stream(
            _checks.text("text", text),
            voice,
            _given(
                speed=speed,
                exaggeration=exaggeration,
                cfg_weight=cfg_weight,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                repetition_penalty=repetition_penalty,
                chunk_size=chunk_size,
                context_window=context_window,
                prompt_tokens=prompt_tokens,
                flow_steps=flow_steps,
                flow_guided_steps=flow_guided_steps,
                fade_duration=fade_duration,
                memory_management=memory_management,
                seed=seed,
                sentence_tokens_max=sentence_tokens_max,
                when_full=when_full,
                buffered_chunks_max=buffered_chunks_max,
            ),
        )

    def open_stream(
        self, voice: Voice | str | os.PathLike[str] | None = None, **options: Any
    ) -> Stream:
        """Starts a stream whose text is still to come: :meth:`Stream.push_text`, then :meth:`Stream.finish`.

        However many pieces the text comes in, it is one utterance. A chunk without samples says that
        all text so far was spoken. ``options`` are those of :meth:`stream`.
        """
        return self._stream(None, voice, _given(**options))

    def speak(
        self, text: str, voice: Voice | str | os.PathLike[str] | None = None, **options: Any
    ) -> NDArray[np.float32]:
        """Speaks ``text`` and returns all of it: float32, shape ``[n]``, 24,000 samples a second.

        ``options`` are those of :meth:`stream`, whose chunks these are, one after the other.
        """
        with self.stream(text, voice, **options) as stream:
            chunks = [chunk.samples for chunk in stream]
        return np.concatenate(chunks) if chunks else np.zeros(0, dtype=np.float32)

    def memory_report(self) -> MemoryReport:
        """Where every byte is."""
        return MemoryReport(**_of_tuples(self._native.memory_report()))

    def metrics(self) -> MemoryMetrics:
        """Memory in the figures that people ask for first."""
        figures = self._native.metrics()["memory"]
        if self._manager is not None:
            figures["gc_collect_count"] += self._manager.gc_collect_count
        return MemoryMetrics(**figures)

    def engine_metrics(self) -> EngineMetrics:
        """How the work goes, since the engine was loaded."""
        figures = self._native.metrics()
        del figures["memory"]
        return EngineMetrics(**figures)

    def plan(self) -> MemoryPlan:
        """What was reckoned with when the engine was loaded."""
        return MemoryPlan(**self._native.plan())

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
        """Ends every stream and gives everything back. Further calls raise :class:`~sottovoce.ClosedError`."""
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
        if voice is not None and not isinstance(voice, Voice):
            if not isinstance(voice, (str, os.PathLike)):
                raise _checks.wrong_type("voice", voice, "a Voice, a name or a path")
            voice = self.voice(voice)
        native = self._native.stream(text, None if voice is None else voice._native, options)
        return Stream(native, self._manager)


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


def _of_tuples(figures: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in figures.items()
    }


@atexit.register
def _close_all() -> None:
    """Nothing of an engine may run on while the interpreter ends."""
    process = os.getpid()
    if process != _process:
        return
    for engine in list(_engines):
        engine.close()


_process = os.getpid()
