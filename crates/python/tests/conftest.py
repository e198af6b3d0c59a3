"""What the tests share: engines, small random models, recordings, and a stand-in for PyTorch."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import sottovoce
from sottovoce.testing import random_model

TEXT = "Every byte has an owner."


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache folder neither serves the tests nor grows by them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOTTOVOCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[sottovoce.Engine]:
    """Pico on one thread, shared by all tests that leave it as it is."""
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture
def own_engine() -> Iterator[sottovoce.Engine]:
    """Pico for one test."""
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
        yield engine


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model of base's architecture."""
    return random_model(tmp_path_factory.mktemp("base"), "base")


@pytest.fixture(scope="session")
def turbo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model of turbo's architecture."""
    return random_model(tmp_path_factory.mktemp("turbo"), "turbo")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> Iterator[sottovoce.Engine]:
    """The small base, which takes voices from recordings."""
    with sottovoce.Engine(base_folder, memory="512MiB", device="cpu", threads=1) as engine:
        yield engine


def noise(seconds: float = 6.0, rate: int = 24_000) -> NDArray[np.float32]:
    """A recording that is loud enough for a voice."""
    return np.random.default_rng(2).normal(0, 0.1, int(seconds * rate)).astype(np.float32)


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether it comes true: for what the engine does after its current piece of work."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def is_idle(engine: sottovoce.Engine) -> bool:
    """Whether no stream is under way or in line."""
    metrics = engine.engine_metrics()
    return metrics.streams_live + metrics.streams_waiting == 0


class FakeTensor:
    """As much of a torch tensor as scripts ask of a sound."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> str:
        return f"torch.{self.array.dtype}"

    def unsqueeze(self, place: int) -> FakeTensor:
        return FakeTensor(np.expand_dims(self.array, place))

    def item(self) -> Any:
        return self.array.item()

    def numpy(self) -> NDArray[Any]:
        return self.array


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that stands in for PyTorch, with the few calls that the drop-in and scripts need."""
    module = types.ModuleType("torch")
    state = {"random": np.random.default_rng(0)}

    def manual_seed(seed: int) -> None:
        state["random"] = np.random.default_rng(seed)

    def randint(low: int, high: int, size: tuple[int, ...]) -> FakeTensor:
        return FakeTensor(state["random"].integers(low, high, size))

    def cat(tensors: list[FakeTensor], dim: int = 0) -> FakeTensor:
        return FakeTensor(np.concatenate([tensor.array for tensor in tensors], axis=dim))

    no_device = types.SimpleNamespace(is_available=lambda: False)
    for name, value in {
        "manual_seed": manual_seed,
        "randint": randint,
        "from_numpy": FakeTensor,
        "cat": cat,
        "cuda": no_device,
        "backends": types.SimpleNamespace(mps=no_device),
    }.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "torch", module)
    return module
