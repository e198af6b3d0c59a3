"""What can go wrong. Every exception of this package is a :class:`SottovoceError`."""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BudgetError",
    "BusyError",
    "ClosedError",
    "DeviceError",
    "FaultError",
    "FileError",
    "ForkedError",
    "MissingPackageError",
    "ModelError",
    "OutOfMemoryError",
    "RecordingError",
    "SottovoceError",
    "StoppedError",
    "SynthesisError",
    "TextError",
    "ToolError",
    "UnsupportedError",
    "VoiceError",
]


class SottovoceError(Exception):
    """Anything that this package refuses or fails at. The message says what to do."""

    def __init__(self, message: str, **figures: object) -> None:
        super().__init__(message)
        self.__dict__.update(figures)


class ArgumentError(SottovoceError, ValueError):
    """An argument has a value that it cannot have."""

    argument: str
    """Its name."""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument has a type that it cannot have."""


class TextError(ArgumentError):
    """The text holds nothing that can be spoken, or too much."""


class VoiceError(ArgumentError):
    """A voice is not known, or cannot be used with this model."""

    name: str
    """The voice's name or file."""


class RecordingError(ArgumentError):
    """A recording cannot be read."""

    name: str
    """The recording's name or file."""


class ModelError(ArgumentError):
    """A model is not known, or cannot be used."""

    name: str
    """The model's name or folder."""


class FileError(SottovoceError, OSError):
    """A file cannot be read or written; ``errno`` and ``filename`` as in :class:`OSError`."""

    def __init__(self, message: str, **figures: object) -> None:
        OSError.__init__(self, message)
        self._message = message
        for name, value in figures.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self._message


class BusyError(SottovoceError):
    """All streams that fit are under way, and no further one may wait."""

    waiting: int
    """Streams that wait."""
    waiting_max: int
    """Streams that may wait."""
    retry_after: float
    """Seconds after which a place is likely to be free."""


class BudgetError(SottovoceError, MemoryError):
    """The budget cannot hold what was asked for."""

    budget_bytes: int
    """The budget, bytes."""
    needed_bytes: int
    """What must be there, bytes."""
    hint: str | None
    """What would fit."""


class OutOfMemoryError(SottovoceError, MemoryError):
    """Memory ran out, after everything that could be given back was."""

    requested_bytes: int
    """Bytes that were asked for."""
    available_bytes: int
    """Bytes that were to be had."""


class DeviceError(SottovoceError, RuntimeError):
    """There is no such device, or it failed."""


class SynthesisError(SottovoceError, RuntimeError):
    """The model failed at a stream."""


class FaultError(SottovoceError, RuntimeError):
    """A fault of this package: please report it. Other streams go on."""


class ClosedError(SottovoceError, RuntimeError):
    """It was closed."""


class StoppedError(ClosedError):
    """The engine was closed while the stream was under way."""


class ForkedError(SottovoceError, RuntimeError):
    """An engine speaks only in the process that loaded it, not in one that was forked off."""


class ToolError(SottovoceError, ValueError):
    """A memory tool cannot do what it was asked for: its trace or its settings are at fault."""


class UnsupportedError(SottovoceError, NotImplementedError):
    """The reference has it, this engine does not."""


class MissingPackageError(SottovoceError, ImportError):
    """Another package is needed for this, such as PyTorch."""
