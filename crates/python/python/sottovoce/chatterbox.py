"""The classes of the reference over this engine, for scripts that exist.

Signatures and defaults are those of ``chatterbox-tts`` and of its streaming fork; only the import
changes::

    from sottovoce.chatterbox import ChatterboxTTS  # it was chatterbox.tts

Sound comes as a torch tensor, float32, shape ``[1, n]``, on the CPU. PyTorch is needed for nothing
else, and imported only then. In new code use :class:`sottovoce.Engine`: there a voice is an object,
not a state of the model.

As with the reference, ``torch.manual_seed`` makes a result repeatable.

Each class spells out its signatures and defaults, however alike they are: editors, type checkers
and callers by position read them as the reference's own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _checks, _native
from .engine import SAMPLE_RATE, Engine, Voice
from .errors import (
    ArgumentError,
    DeviceError,
    MissingPackageError,
    UnsupportedError,
    VoiceError,
)
from .metrics import ChunkMetrics, MemoryMetrics, MemoryReport
from .policy import MemoryProfile, StreamingMemoryManager

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

__all__ = [
    "ChatterboxMultilingualTTS",
    "ChatterboxTTS",
    "ChatterboxTurboTTS",
    "ChatterboxVC",
    "Conditionals",
    "SUPPORTED_LANGUAGES",
    "StreamingMetrics",
]

_Path = str | os.PathLike[str]

_SEED_MAX = 2**31 - 1
#: Speech tokens that are converted in one pass where memory allows: 20 s. The reference converts all
#: in one pass.
_WHOLE_TOKENS = 500

_WHOLE_TOKENS = 256
"""Speech tokens that ``generate`` makes sound of together, where memory allows: 10 s and the
silence after them, as the command line does for a file."""

SUPPORTED_LANGUAGES: dict[str, str] = dict(_native.languages())
"""English names of the multilingual models' languages by code."""

_MULTILINGUAL_FILES = {
    "v2": "t3_mtl23ls_v2.safetensors",
    "v3": "t3_mtl23ls_v3.safetensors",
}


@dataclass
class StreamingMetrics:
    """How a stream stands; the fork's figures, and the memory's beside them."""

    latency_to_first_chunk: float | None = None
    """Seconds from the call to the first samples."""
    rtf: float | None = None
    """Seconds of work a second of speech."""
    total_generation_time: float | None = None
    """Seconds from the call."""
    total_audio_duration: float | None = None
    """Seconds of speech."""
    chunk_count: int = 0
    """Chunks so far."""
    memory_allocated: int = 0
    """Bytes in use."""
    memory_reserved: int = 0
    """Bytes held from the system or the device."""
    memory_reserved_peak: int = 0
    """The most bytes ever held."""
    fragmentation: float = 0.0
    """(reserved - allocated) / reserved."""

    @classmethod
    def _of(cls, metrics: ChunkMetrics) -> StreamingMetrics:
        return cls(**{field.name: getattr(metrics, field.name) for field in fields(cls)})


class Conditionals:
    """A voice, as the reference calls it: everything derived from a recording.

    It is either of an engine, or a file that is read when a model speaks with it.
    """

    def __init__(self, voice: Voice | None = None, path: _Path | None = None) -> None:
        self._voice = voice
        self._path = None if path is None else _checks.path("fpath", path)

    @classmethod
    def load(cls, fpath: _Path, map_location: object = "cpu") -> Conditionals:
        """A prepared voice's file: ``.safetensors``, or the reference's ``.pt``.

        ``map_location`` is the reference's; a voice goes where the engine wants it.
        """
        return cls(path=fpath)

    def save(self, fpath: _Path) -> None:
        """Writes a file that :meth:`load` takes, in the engine's own format."""
        if self._voice is None:
            raise ArgumentError(
                "argument conds: it is a file already, and no model has read it", argument="conds"
            )
        self._voice.save(fpath)

    def to(self, device: object) -> Conditionals:
        """Itself: a voice goes where the engine wants it."""
        return self

    def _of(self, engine: Engine) -> Voice:
        if self._voice is None:
            self._voice = engine.voice(self._path)
        return self._voice


class _Model:
    """What the classes have in common."""

    _engine: Engine

    sr: int = SAMPLE_RATE
    """Samples a second: 24,000."""
    device: str
    """What computes: ``"cpu"`` or ``"cuda"``."""
    conds: Conditionals | None
    """The voice that speaks."""

    def __init__(self, *networks: object, **others: object) -> None:
        raise UnsupportedError(
            f"{type(self).__name__} is not made of networks here: use from_pretrained(device) or "
            "from_local(ckpt_dir, device)"
        )

    @property
    def engine(self) -> Engine:
        """The engine below, for what the reference has not."""
        return self._engine

    @classmethod
    def _load(cls, model: _Path, device: object, options: dict[str, Any]) -> Self:
        self = cls.__new__(cls)
        wanted = _device(device)
        options.setdefault("memory", None)
        options.setdefault("whole_tokens_max", _WHOLE_TOKENS)
        try:
            self._engine = Engine(model, device=wanted, **options)
        except DeviceError as error:
            if wanted == "cpu":
                raise
            warnings.warn(f"{error}; the CPU speaks instead", RuntimeWarning, stacklevel=3)
            wanted = "cpu"
            self._engine = Engine(model, device=wanted, **options)
        self.device = wanted
        try:
            self.conds = Conditionals(self._engine.voice())
        except VoiceError:
            # A folder without a voice of its own.
            self.conds = None
        return self

    def configure_memory_management(
        self,
        profile: MemoryProfile | str | None = None,
        enable_monitoring: bool | None = None,
        cache_interval: int | None = None,
        memory_manager: StreamingMemoryManager | None = None,
    ) -> None:
        """As :meth:`sottovoce.Engine.configure_memory_management`."""
        self._engine.configure_memory_management(
            profile, enable_monitoring, cache_interval, memory_manager
        )

    def memory_report(self) -> MemoryReport:
        """Where every byte is."""
        return self._engine.memory_report()

    def metrics(self) -> MemoryMetrics:
        """Memory in the figures that people ask for first."""
        return self._engine.metrics()

    def close(self) -> None:
        """Gives everything back."""
        self._engine.close()

    def _prepare(self, wav_fpath: _Path) -> None:
        self.conds = Conditionals(self._engine.voice(_checks.path("wav_fpath", wav_fpath)))

    def _voice(self, audio_prompt_path: _Path | None) -> Voice:
        if audio_prompt_path:
            self._prepare(audio_prompt_path)
        assert self.conds is not None, (
            "Please `prepare_conditionals` first or specify `audio_prompt_path`"
        )
        return self.conds._of(self._engine)

    def _speak(self, text: str, audio_prompt_path: _Path | None, **options: Any) -> torch.Tensor:
        torch = _torch()
        voice = self._voice(audio_prompt_path)
        # Nobody listens before the end, so no sentence pays for chunks.
        samples = self._engine.speak(text, voice, seed=_seed(torch), delivery="whole", **options)
        return _tensor(torch, samples)

    def _stream(
        self,
        text: str,
        audio_prompt_path: _Path | None,
        print_metrics: bool,
        cache_interval: int,
        **options: Any,
    ) -> Iterator[tuple[torch.Tensor, StreamingMetrics]]:
        torch = _torch()
        voice = self._voice(audio_prompt_path)
        if options["memory_management"]:
            self._engine.configure_memory_management(cache_interval=cache_interval)
        metrics = None
        with self._engine.stream(text, voice, seed=_seed(torch), **options) as stream:
            for chunk in stream:
                metrics = chunk.metrics
                if print_metrics and metrics.chunk_count == 1:
                    print(f"first audio after {metrics.latency_to_first_chunk:.3f} s")
                yield _tensor(torch, chunk.samples), StreamingMetrics._of(metrics)
        if print_metrics and metrics is not None:
            print(
                f"{metrics.total_audio_duration:.2f} s of audio in {metrics.chunk_count} chunks, "
                f"{metrics.total_generation_time:.2f} s, RTF {metrics.rtf:.3f}, at most "
                f"{metrics.memory_reserved_peak / 2**20:.1f} MiB"
            )


class ChatterboxTTS(_Model):
    """The base model, English."""

    ENC_COND_LEN = 6 * 16_000
    """Samples of a recording that T3's prompt is taken from, at 16 kHz."""
    DEC_COND_LEN = 10 * 24_000
    """Samples of a recording that the sound's prompt is taken from, at 24 kHz."""

    @classmethod
    def from_pretrained(cls, device: object, **options: Any) -> ChatterboxTTS:
        """The official model, downloaded if it is not there.

        ``device`` is ``"cuda"``, ``"cpu"`` or ``"mps"``, or a ``torch.device``; where there is no
        CUDA device the CPU speaks. ``options`` are those of :class:`sottovoce.Engine`, such as
        ``memory="2GiB"``; without them the system's memory is the limit.
        """
        return cls._load(_native.download("base"), device, options)

    @classmethod
    def from_local(cls, ckpt_dir: _Path, device: object, **options: Any) -> ChatterboxTTS:
        """A model's folder; ``device`` and ``options`` as in :meth:`from_pretrained`."""
        return cls._load(ckpt_dir, device, options)

    def prepare_conditionals(self, wav_fpath: _Path, exaggeration: float = 0.5) -> None:
        """Takes the voice of a recording for all that is spoken from now on.

        ``exaggeration`` is the reference's; here it belongs to what is spoken.
        """
        self._prepare(wav_fpath)

    def generate(
        self,
        text: str,
        repetition_penalty: float = 1.2,
        min_p: float = 0.05,
        top_p: float = 1.0,
        audio_prompt_path: _Path | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        temperature: float = 0.8,
    ) -> torch.Tensor:
        """Speaks ``text``: float32, shape ``[1, n]``, at :attr:`sr` samples a second.

        A recording at ``audio_prompt_path`` gives the voice for this and all that follows.
        """
        return self._speak(
            text,
            audio_prompt_path,
            repetition_penalty=repetition_penalty,
            min_p=min_p,
            top_p=top_p,
            exaggeration=exaggeration,
            cfg_weight=cfg_weight,
            temperature=temperature,
        )

    def generate_stream(
        self,
        text: str,
        audio_prompt_path: _Path | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        temperature: float = 0.8,
        chunk_size: int = 25,
        context_window: int = 50,
        fade_duration: float = 0.02,
        print_metrics: bool = True,
        memory_management: bool = True,
        cache_interval: int = 10,
    ) -> Iterator[tuple[torch.Tensor, StreamingMetrics]]:
        """Speaks ``text`` chunk by chunk: (float32 of shape ``[1, n]``, figures).

        Parameters
        ----------
        chunk_size
            Speech tokens (1/25 s) in a chunk.
        context_window
            Speech tokens before a chunk that its synthesis sees again.
        fade_duration
            Seconds of fade at the very start.
        print_metrics
            Whether to print the figures.
        memory_management
            Whether the memory policy looks at this stream's chunks.
        cache_interval
            Chunks between two of its looks.
        """
        return self._stream(
            text,
            audio_prompt_path,
            print_metrics,
            cache_interval,
            exaggeration=exaggeration,
            cfg_weight=cfg_weight,
            temperature=temperature,
            chunk_size=chunk_size,
            context_window=context_window,
            fade_duration=fade_duration,
            memory_management=memory_management,
        )


class ChatterboxTurboTTS(_Model):
    """The turbo model, English; nano is its small sister."""

    ENC_COND_LEN = 15 * 16_000
    """Samples of a recording that T3's prompt is taken from, at 16 kHz."""
    DEC_COND_LEN = 10 * 24_000
    """Samples of a recording that the sound's prompt is taken from, at 24 kHz."""

    @classmethod
    def from_pretrained(
        cls, device: object, nano: bool = False, **options: Any
    ) -> ChatterboxTurboTTS:
        """The official model, as :meth:`ChatterboxTTS.from_pretrained` has it."""
        return cls._load(_native.download("nano" if nano else "turbo"), device, options)

    @classmethod
    def from_local(
        cls, ckpt_dir: _Path, device: object, nano: bool = False, **options: Any
    ) -> ChatterboxTurboTTS:
        """A model's folder, which says itself whether it is nano's."""
        return cls._load(ckpt_dir, device, options)

    def prepare_conditionals(
        self, wav_fpath: _Path, exaggeration: float = 0.5, norm_loudness: bool = True
    ) -> None:
        """Takes the voice of a recording of more than 5 s for all that is spoken from now on.

        The recording's loudness is always brought to -27 LUFS.
        """
        _loudness_is_fixed(norm_loudness)
        self._prepare(wav_fpath)

    def generate(
        self,
        text: str,
        repetition_penalty: float = 1.2,
        min_p: float = 0.00,
        top_p: float = 0.95,
        audio_prompt_path: _Path | None = None,
        exaggeration: float = 0.0,
        cfg_weight: float = 0.0,
        temperature: float = 0.8,
        top_k: int = 1000,
        norm_loudness: bool = True,
    ) -> torch.Tensor:
        """Speaks ``text``: float32, shape ``[1, n]``, at :attr:`sr` samples a second.

        ``min_p``, ``exaggeration`` and ``cfg_weight`` do nothing with this model, as in the
        reference.
        """
        _loudness_is_fixed(norm_loudness)
        if min_p or exaggeration or cfg_weight:
            warnings.warn(
                "min_p, exaggeration and cfg_weight do nothing with turbo", stacklevel=2
            )
        return self._speak(
            text,
            audio_prompt_path,
            repetition_penalty=repetition_penalty,
            top_p=top_p,
            temperature=temperature,
            top_k=top_k,
        )

    def generate_stream(
        self,
        text: str,
        audio_prompt_path: _Path | None = None,
        temperature: float = 0.8,
        chunk_size: int = 25,
        context_window: int = 50,
        fade_duration: float = 0.02,
        print_metrics: bool = True,
        memory_management: bool = True,
        cache_interval: int = 10,
    ) -> Iterator[tuple[torch.Tensor, StreamingMetrics]]:
        """As :meth:`ChatterboxTTS.generate_stream`."""
        return self._stream(
            text,
            audio_prompt_path,
            print_metrics,
            cache_interval,
            temperature=temperature,
            chunk_size=chunk_size,
            context_window=context_window,
            fade_duration=fade_duration,
            memory_management=memory_management,
        )


class ChatterboxMultilingualTTS(_Model):
    """The multilingual models, of 23 languages or tuned to one of them."""

    ENC_COND_LEN = 6 * 16_000
    """Samples of a recording that T3's prompt is taken from, at 16 kHz."""
    DEC_COND_LEN = 10 * 24_000
    """Samples of a recording that the sound's prompt is taken from, at 24 kHz."""

    @classmethod
    def get_supported_languages(cls) -> dict[str, str]:
        """English names of the languages by code."""
        return SUPPORTED_LANGUAGES.copy()

    @classmethod
    def from_pretrained(
        cls, device: object, t3_model: str | None = None, **options: Any
    ) -> ChatterboxMultilingualTTS:
        """The official model, as :meth:`ChatterboxTTS.from_pretrained` has it.

        ``t3_model`` is ``"v2"``, the default, ``"v3"``, or the name of a model that is tuned to a
        language, such as ``"zh"``.
        """
        names = {None: "multilingual", "v2": "multilingual", "v3": "multilingual-v3"}
        return cls._load(_native.download(names.get(t3_model) or str(t3_model)), device, options)

    @classmethod
    def from_local(
        cls, ckpt_dir: _Path, device: object, t3_model: str | None = None, **options: Any
    ) -> ChatterboxMultilingualTTS:
        """A model's folder; of one with several, ``t3_model`` names T3's file, or ``"v3"``."""
        folder = Path(_checks.path("ckpt_dir", ckpt_dir))
        file = folder / _MULTILINGUAL_FILES.get(t3_model or "v2", str(t3_model))
        # A converted folder has no file of T3's own.
        model = file if t3_model is not None or file.is_file() else folder
        return cls._load(model, device, options)

    def prepare_conditionals(self, wav_fpath: _Path, exaggeration: float = 0.5) -> None:
        """As :meth:`ChatterboxTTS.prepare_conditionals`."""
        self._prepare(wav_fpath)

    def generate(
        self,
        text: str,
        language_id: str | None,
        audio_prompt_path: _Path | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        temperature: float = 0.8,
        repetition_penalty: float = 2.0,
        min_p: float = 0.05,
        top_p: float = 1.0,
    ) -> torch.Tensor:
        """Speaks ``text``: float32, shape ``[1, n]``, at :attr:`sr` samples a second.

        ``language_id`` is one of :meth:`get_supported_languages`; ``None`` is English, or the
        language that the model is tuned to.
        """
        return self._speak(
            text,
            audio_prompt_path,
            language=_language(language_id),
            repetition_penalty=repetition_penalty,
            min_p=min_p,
            top_p=top_p,
            exaggeration=exaggeration,
            cfg_weight=cfg_weight,
            temperature=temperature,
        )

    def generate_stream(
        self,
        text: str,
        language_id: str | None,
        audio_prompt_path: _Path | None = None,
        exaggeration: float = 0.5,
        cfg_weight: float = 0.5,
        temperature: float = 0.8,
        chunk_size: int = 25,
        context_window: int = 50,
        fade_duration: float = 0.02,
        print_metrics: bool = True,
        memory_management: bool = True,
        cache_interval: int = 10,
    ) -> Iterator[tuple[torch.Tensor, StreamingMetrics]]:
        """As :meth:`ChatterboxTTS.generate_stream`, in a language."""
        return self._stream(
            text,
            audio_prompt_path,
            print_metrics,
            cache_interval,
            language=_language(language_id),
            exaggeration=exaggeration,
            cfg_weight=cfg_weight,
            temperature=temperature,
            chunk_size=chunk_size,
            context_window=context_window,
            fade_duration=fade_duration,
            memory_management=memory_management,
        )


class ChatterboxVC(_Model):
    """Voice conversion: recorded speech in another voice. Only S3Gen is loaded."""

    ENC_COND_LEN = 6 * 16_000
    """Samples of a recording that T3's prompt is taken from, at 16 kHz; of no use here."""
    DEC_COND_LEN = 10 * 24_000
    """Samples of a recording that the sound's prompt is taken from, at 24 kHz."""

    @classmethod
    def from_pretrained(cls, device: object, **options: Any) -> ChatterboxVC:
        """The official base model, as :meth:`ChatterboxTTS.from_pretrained` has it."""
        return cls._load_sound(_native.download("base"), device, options)

    @classmethod
    def from_local(cls, ckpt_dir: _Path, device: object, **options: Any) -> ChatterboxVC:
        """A model's folder, of which S3Gen's file is enough."""
        return cls._load_sound(ckpt_dir, device, options)

    @classmethod
    def _load_sound(cls, model: _Path, device: object, options: dict[str, Any]) -> ChatterboxVC:
        options.setdefault("streams_max", 1)
        options.setdefault("whole_tokens_max", _WHOLE_TOKENS)
        return cls._load(model, device, {**options, "speech": False})

    def set_target_voice(self, wav_fpath: _Path) -> None:
        """Takes the voice of a recording for all that is converted from now on."""
        self._prepare(wav_fpath)

    def generate(self, audio: _Path, target_voice_path: _Path | None = None) -> torch.Tensor:
        """Speaks the recording at ``audio`` again: float32, shape ``[1, n]``, at :attr:`sr` samples
        a second.

        A recording at ``target_voice_path`` gives the voice for this and all that follows.
        """
        torch = _torch()
        if target_voice_path:
            self.set_target_voice(target_voice_path)
        assert self.conds is not None, (
            "Please `set_target_voice` first or specify `target_voice_path`"
        )
        samples = self._engine.change_voice(
            _checks.path("audio", audio),
            self.conds._of(self._engine),
            seed=_seed(torch),
            delivery="whole",
        )
        return _tensor(torch, samples)


def _torch() -> Any:
    """PyTorch, when a tensor is asked for."""
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            "the classes of the reference return torch tensors: install torch, or use "
            "sottovoce.Engine, which returns numpy arrays"
        ) from error
    return torch


def _tensor(torch: Any, samples: Any) -> torch.Tensor:
    """Samples as a tensor of shape ``[1, n]``, without a copy."""
    tensor: torch.Tensor = torch.from_numpy(samples).unsqueeze(0)
    return tensor


def _seed(torch: Any) -> int:
    """A seed from PyTorch's own random numbers, which a script may have seeded."""
    return int(torch.randint(0, _SEED_MAX, (1,)).item())


def _device(device: object) -> str:
    """The engine's name of a device of PyTorch's."""
    name = str(device)
    # The CPU is what speaks on Apple's machines.
    return "cpu" if name.split(":")[0] == "mps" else name


def _language(language_id: str | None) -> str | None:
    """A language of the multilingual models, by the reference's rule."""
    if not language_id:
        return None
    code = _checks.text("language_id", language_id).lower()
    if code not in SUPPORTED_LANGUAGES:
        raise ArgumentError(
            f"argument language_id: {language_id!r} is not supported: use one of "
            f"{', '.join(SUPPORTED_LANGUAGES)}",
            argument="language_id",
        )
    return code


def _loudness_is_fixed(norm_loudness: bool) -> None:
    if not norm_loudness:
        warnings.warn(
            "norm_loudness=False does nothing: voices are always brought to -27 LUFS",
            stacklevel=3,
        )

