"""Arguments of the wrong type or value, refused by name."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, ArgumentTypeError

#: Seconds of a recording that are passed on: more than any model listens to.
_RECORDING_SECONDS_MAX = 120
_SAMPLE_RATE_MAX = 768_000
_CHANNELS_MAX = 32
#: The tag of 32-bit float samples in a RIFF file.
_FLOAT_FORMAT = 3


def text(argument: str, value: object) -> str:
    """The value, if it is a str."""
    if not isinstance(value, str):
        raise wrong_type(argument, value, "a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"argument {argument}: half of a character at {error.start} (a lone surrogate)",
            argument=argument,
        ) from error
    return value


def switch(argument: str, value: object) -> bool:
    """The value, if it is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise wrong_type(argument, value, "True or False")
    return bool(value)


def path(argument: str, value: object) -> str:
    """The value as a path's text."""
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type(argument, value, "a str or a path")
    name = os.fspath(value)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if "\0" in name:
        raise ArgumentError(f"argument {argument}: a path has no NUL in it", argument=argument)
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"argument {argument}: no path can be written so: {error.reason}", argument=argument
        ) from error
    return name


def count(argument: str, value: object, least: int = 0) -> int:
    """The value as a whole number of at least ``least``."""
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise wrong_type(argument, value, "a whole number")
    try:
        number = int(value.__index__())
    except TypeError as error:
        # An array of one dimension or more has the method, and none of its results.
        raise wrong_type(argument, value, "a whole number") from error
    if number < least:
        raise ArgumentError(f"argument {argument}: use at least {least}", argument=argument)
    return number


def wrong_type(argument: str, value: object, wanted: str) -> ArgumentTypeError:
    """An argument of the wrong type."""
    given = type(value).__name__
    return ArgumentTypeError(
        f"argument {argument}: {wanted} is wanted, not {given}", argument=argument
    )


def recording(
    argument: str,
    value: Any,
    sample_rate: object,
    seconds_max: int | None = _RECORDING_SECONDS_MAX,
) -> bytes:
    """An array of samples as a WAV file of 32-bit floats, channels mixed.

    Samples after ``seconds_max`` are left out. ``value`` has shape ``[n]``, ``[channels, n]`` or ``[n, channels]``.
    """

    def refuse(reason: str) -> ArgumentError:
        return ArgumentError(f"argument {argument}: {reason}", argument=argument)

    if sample_rate is None:
        reason = "an array needs its sample_rate, in samples a second"
        raise ArgumentError(f"argument sample_rate: {reason}", argument="sample_rate")
    rate = count("sample_rate", sample_rate, 1)
    if rate > _SAMPLE_RATE_MAX:
        reason = f"use at most {_SAMPLE_RATE_MAX}"
        raise ArgumentError(f"argument sample_rate: {reason}", argument="sample_rate")
    array = np.asarray(value)
    if array.ndim not in (1, 2):
        raise refuse(f"samples have one or two dimensions, these have {array.ndim}")
    if array.size == 0:
        raise refuse("it has no samples")
    if array.ndim == 2:
        if array.shape[0] > array.shape[1]:
            array = array.T
        if array.shape[0] > _CHANNELS_MAX:
            raise refuse(f"{array.shape[0]} channels; at most {_CHANNELS_MAX} are mixed")
    if seconds_max is not None:
        array = array[..., : seconds_max * rate]
    samples = _floats(array, refuse)
    if array.ndim == 2:
        samples = samples.mean(axis=0, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise refuse("samples must be finite: there are NaNs or infinities among them")
    data = np.ascontiguousarray(samples, dtype="<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(data), b"WAVE",
        b"fmt ", 16, _FLOAT_FORMAT, 1, rate, rate * 4, 4, 32,
        b"data", len(data),
    )  # fmt: skip
    return head + data


def _floats(array: NDArray[Any], refuse: Any) -> NDArray[np.float32]:
    """Samples from -1 to 1, whatever they were."""
    kind = array.dtype.kind
    if kind == "f" and array.dtype.itemsize <= 8:
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    if kind == "i" and array.dtype.itemsize in (2, 4):
        return (array / float(2 ** (8 * array.dtype.itemsize - 1))).astype(np.float32)
    if kind == "u" and array.dtype.itemsize == 1:
        return ((array.astype(np.float32) - 128.0) / 128.0).astype(np.float32)
    error: ArgumentError = refuse(
        f"samples of dtype {array.dtype} are not taken: use float32, float64, int16, int32 or uint8"
    )
    raise error
