"""The examples run."""

from __future__ import annotations

import asyncio
import importlib.util
import types
import wave
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "examples"


def example(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_text_is_spoken_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hello.wav"
    example("stream").main("Hello there.", str(path))
    with wave.open(str(path)) as file:
        assert file.getnframes() > 10_000


def test_words_are_spoken_as_they_come() -> None:
    assert asyncio.run(example("conversation").main()) > 1.0


def test_the_references_script_runs(
    base_folder: Path, torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    torchaudio = types.ModuleType("torchaudio")
    torchaudio.save = lambda path, sound, rate: saved.append(path)  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "torchaudio", torchaudio)
    monkeypatch.setattr("sottovoce._native.download", lambda name: str(base_folder))
    monkeypatch.chdir(tmp_path)
    example("reference").main()
    assert saved == ["whole.wav", "streamed.wav"]
