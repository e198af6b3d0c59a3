"""The reference's classes."""

from __future__ import annotations

import inspect
import sys
import types
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from conftest import noise
from sottovoce.chatterbox import (
    ChatterboxMultilingualTTS,
    ChatterboxTTS,
    ChatterboxTurboTTS,
    ChatterboxVC,
    Conditionals,
    StreamingMetrics,
    _seed,
)
from sottovoce.testing import random_model


@pytest.fixture
def clip(tmp_path: Path) -> str:
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(24_000)
        file.writeframes((noise() * 32767).astype("<i2").tobytes())
    return str(path)


@pytest.fixture
def model(base_folder: Path) -> ChatterboxTTS:
    return ChatterboxTTS.from_local(base_folder, "cpu", threads=1, memory="512MiB")


def defaults(call: Any) -> dict[str, Any]:
    parameters = inspect.signature(call).parameters.values()
    return {one.name: one.default for one in parameters if one.name != "self"}


def test_signatures_and_defaults_are_the_references() -> None:
    none = inspect.Parameter.empty
    assert list(defaults(ChatterboxTTS.generate).items()) == [
        ("text", none), ("repetition_penalty", 1.2), ("min_p", 0.05), ("top_p", 1.0),
        ("audio_prompt_path", None), ("exaggeration", 0.5), ("cfg_weight", 0.5),
        ("temperature", 0.8),
    ]  # fmt: skip
    assert list(defaults(ChatterboxTTS.generate_stream).items()) == [
        ("text", none), ("audio_prompt_path", None), ("exaggeration", 0.5), ("cfg_weight", 0.5),
        ("temperature", 0.8), ("chunk_size", 25), ("context_window", 50), ("fade_duration", 0.02),
        ("print_metrics", True), ("memory_management", True), ("cache_interval", 10),
    ]  # fmt: skip
    assert list(defaults(ChatterboxTurboTTS.generate).items()) == [
        ("text", none), ("repetition_penalty", 1.2), ("min_p", 0.0), ("top_p", 0.95),
        ("audio_prompt_path", None), ("exaggeration", 0.0), ("cfg_weight", 0.0),
        ("temperature", 0.8), ("top_k", 1000), ("norm_loudness", True),
    ]  # fmt: skip
    assert list(defaults(ChatterboxMultilingualTTS.generate).items()) == [
        ("text", none), ("language_id", none), ("audio_prompt_path", None), ("exaggeration", 0.5),
        ("cfg_weight", 0.5), ("temperature", 0.8), ("repetition_penalty", 2.0), ("min_p", 0.05),
        ("top_p", 1.0),
    ]  # fmt: skip
    local = defaults(ChatterboxMultilingualTTS.from_local)
    assert list(local)[:3] == ["ckpt_dir", "device", "t3_model"] and local["t3_model"] is None
    assert defaults(ChatterboxTTS.prepare_conditionals) == {"wav_fpath": none, "exaggeration": 0.5}
    turbo = defaults(ChatterboxTurboTTS.prepare_conditionals)
    assert turbo == {"wav_fpath": none, "exaggeration": 0.5, "norm_loudness": True}
    assert list(defaults(ChatterboxTurboTTS.from_pretrained))[:2] == ["device", "nano"]
    assert list(defaults(ChatterboxTTS.from_local))[:2] == ["ckpt_dir", "device"]


def test_the_multilingual_model_speaks_its_languages(tmp_path: Path, torch: Any) -> None:
    folder = random_model(tmp_path / "multilingual", "multilingual")
    languages = ChatterboxMultilingualTTS.get_supported_languages()
    assert len(languages) == 23 and languages["de"] == "German"
    languages.clear()
    assert ChatterboxMultilingualTTS.get_supported_languages()["zh"] == "Chinese"
    model = ChatterboxMultilingualTTS.from_local(folder, "cpu", threads=1)

    def speak(language_id: str | None) -> Any:
        torch.manual_seed(1)
        return model.generate("Hallo.", language_id).numpy().tolist()

    assert speak("DE") == speak("de") != speak("fr")
    assert speak(None) == speak("en")
    chunks = list(model.generate_stream("Hallo.", "de", print_metrics=False))
    assert chunks and chunks[0][0].shape[0] == 1
    with pytest.raises(ValueError, match="language_id.*'xx'.*ar, da, de") as refused:
        model.generate("Hallo.", "xx")
    assert isinstance(refused.value, sottovoce.ArgumentError)
    with pytest.raises(sottovoce.ModelError, match="t3_mtl23ls_v3"):
        ChatterboxMultilingualTTS.from_local(folder, "cpu", t3_model="v3")


def test_a_result_is_a_tensor_of_one_row(model: ChatterboxTTS, torch: Any) -> None:
    sound = model.generate("Hello.")
    assert sound.dtype == "torch.float32"
    assert sound.shape[0] == 1 and sound.shape[1] > 1000
    assert model.sr == 24_000 and model.device == "cpu"


def test_pytorchs_seed_makes_a_result_repeatable(model: ChatterboxTTS, torch: Any) -> None:
    def speak(seed: int) -> Any:
        torch.manual_seed(seed)
        return model.generate("Hello.").numpy()

    assert np.array_equal(speak(1), speak(1))
    assert not np.array_equal(speak(1), speak(2))


def test_a_result_is_made_whole(model: ChatterboxTTS, torch: Any) -> None:
    text = "Hello there, and hello to everybody else who is here."
    torch.manual_seed(1)
    made = model.generate(text).numpy()
    torch.manual_seed(1)
    whole = model.engine.speak(
        text, model.engine.voice(), seed=_seed(torch), delivery="whole", min_p=0.05, top_p=1.0,
        temperature=0.8, repetition_penalty=1.2, exaggeration=0.5, cfg_weight=0.5,
    )  # fmt: skip
    assert np.array_equal(made[0], whole)


def test_a_stream_yields_tensors_and_figures(
    model: ChatterboxTTS, torch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    chunks = []
    for audio_chunk, metrics in model.generate_stream(
        "Hello there.", memory_management=True, cache_interval=10
    ):
        assert isinstance(metrics, StreamingMetrics)
        assert audio_chunk.shape[0] == 1
        chunks.append(audio_chunk)
    assert metrics.chunk_count == len(chunks)
    assert metrics.rtf is not None and metrics.total_audio_duration is not None
    samples = torch.cat(chunks, dim=-1).shape[1]
    assert metrics.total_audio_duration == pytest.approx(samples / 24_000)
    assert "RTF" in capsys.readouterr().out
    list(model.generate_stream("Hello.", print_metrics=False))
    assert capsys.readouterr().out == ""


def test_a_stream_that_is_left_ends(model: ChatterboxTTS, torch: Any) -> None:
    for _ in model.generate_stream("Hello there. " * 10, print_metrics=False):
        break
    assert model.engine.engine_metrics().streams_finished == 0


def test_a_prompt_changes_the_models_voice_for_good(
    model: ChatterboxTTS, torch: Any, clip: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    own = model.generate("Hello.").numpy()
    torch.manual_seed(0)
    prompted = model.generate("Hello.", audio_prompt_path=clip).numpy()
    torch.manual_seed(0)
    after = model.generate("Hello.").numpy()
    assert not np.array_equal(own, prompted)
    assert np.array_equal(prompted, after)
    assert model.conds is not None
    kept = tmp_path / "conds.safetensors"
    model.conds.save(kept)
    model.conds = Conditionals.load(kept, map_location="cuda").to("cpu")
    torch.manual_seed(0)
    assert np.array_equal(model.generate("Hello.").numpy(), prompted)


def test_a_model_without_a_voice_asks_for_one(
    base_folder: Path, tmp_path: Path, torch: Any, clip: str
) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((base_folder / name).read_bytes())
    model = ChatterboxTTS.from_local(tmp_path, "cpu", threads=1)
    assert model.conds is None
    with pytest.raises(AssertionError, match="prepare_conditionals"):
        model.generate("Hello.")
    model.prepare_conditionals(clip)
    assert model.generate("Hello.").shape[0] == 1


def test_turbo_speaks_and_says_what_does_nothing(
    turbo_folder: Path, torch: Any, clip: str
) -> None:
    model = ChatterboxTurboTTS.from_local(turbo_folder, "cpu", threads=1)
    assert model.generate("Hello.", audio_prompt_path=clip).shape[0] == 1
    with pytest.warns(UserWarning, match="cfg_weight"):
        model.generate("Hello.", cfg_weight=0.5)
    with pytest.warns(UserWarning, match="norm_loudness"):
        model.generate("Hello.", norm_loudness=False)
    assert sum(1 for _ in model.generate_stream("Hello.", print_metrics=False)) > 0


def test_where_there_is_no_cuda_device_the_cpu_speaks(base_folder: Path, torch: Any) -> None:
    with pytest.warns(RuntimeWarning, match="CPU speaks instead"):
        model = ChatterboxTTS.from_local(base_folder, "cuda", threads=1)
    assert model.device == "cpu" and model.generate("Hello.").shape[0] == 1
    assert ChatterboxTTS.from_local(base_folder, "mps", threads=1).device == "cpu"


def test_without_pytorch_the_message_says_what_to_do(
    model: ChatterboxTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(sottovoce.MissingPackageError, match="install torch") as missing:
        model.generate("Hello.")
    assert isinstance(missing.value, ImportError)


def test_voice_conversion_has_the_references_signature_and_loads_no_t3(
    base_folder: Path, clip: str, torch: Any
) -> None:
    none = inspect.Parameter.empty
    assert defaults(ChatterboxVC.generate) == {"audio": none, "target_voice_path": None}
    assert defaults(ChatterboxVC.set_target_voice) == {"wav_fpath": none}
    assert list(defaults(ChatterboxVC.from_local))[:2] == ["ckpt_dir", "device"]
    model = ChatterboxVC.from_local(base_folder, "cpu", threads=1, memory="512MiB")
    assert all(owner["tag"] != "t3" for owner in model.memory_report().owners)
    torch.manual_seed(1)
    sound = model.generate(clip)
    assert sound.dtype == "torch.float32" and sound.shape == (1, 6 * 24_000)
    torch.manual_seed(1)
    assert model.generate(clip).shape == sound.shape
    before = model.conds
    model.generate(clip, target_voice_path=clip)
    assert model.conds is not before
    with pytest.raises(sottovoce.TextError, match="speech"):
        model.engine.speak("Hello.")
    model.close()


def test_voice_conversion_without_a_target_asserts(
    base_folder: Path, clip: str, torch: Any
) -> None:
    model = ChatterboxVC.from_local(base_folder, "cpu", threads=1, memory="512MiB")
    model.conds = None
    with pytest.raises(AssertionError, match="set_target_voice"):
        model.generate(clip)
    model.close()


def test_what_the_engine_has_not_is_refused_clearly() -> None:
    with pytest.raises(sottovoce.UnsupportedError, match="from_pretrained"):
        ChatterboxTTS(None, None, None, None, "cpu")


def run_script(
    source: str, folder: Path, monkeypatch: pytest.MonkeyPatch, model: Path
) -> dict[str, Any]:
    """Runs a script in `folder` whose models are `model`; what it left behind."""
    saved: dict[str, Any] = {}
    torchaudio = types.ModuleType("torchaudio")

    def save(path: str, sound: Any, rate: int) -> None:
        assert sound.shape[0] == 1 and rate == 24_000
        saved[path] = sound

    torchaudio.save = save  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchaudio", torchaudio)
    monkeypatch.setattr("sottovoce._native.download", lambda name: str(model))
    monkeypatch.chdir(folder)
    exec(compile(source, "script.py", "exec"), {"__name__": "__main__"})
    return saved


DEVICE = """
import torch
if torch.cuda.is_available():
    device = "cuda"
elif torch.backends.mps.is_available():
    device = "mps"
else:
    device = "cpu"
"""


def test_scripts_of_the_reference_run_with_their_imports_changed(
    base_folder: Path,
    turbo_folder: Path,
    torch: Any,
    clip: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base_script = DEVICE + f"""
import torchaudio as ta
from sottovoce.chatterbox import ChatterboxTTS
model = ChatterboxTTS.from_pretrained(device=device)
wav = model.generate("A first text.")
ta.save("test-1.wav", wav, model.sr)
wav = model.generate("A second text.", audio_prompt_path={clip!r})
ta.save("test-2.wav", wav, model.sr)
"""
    assert len(run_script(base_script, tmp_path, monkeypatch, base_folder)) == 2
    turbo_script = f"""
import torchaudio as ta
from sottovoce.chatterbox import ChatterboxTurboTTS
model = ChatterboxTurboTTS.from_pretrained(device="cpu")
wav = model.generate("Oh, hello there.", audio_prompt_path={clip!r})
ta.save("test-turbo.wav", wav, model.sr)
"""
    assert len(run_script(turbo_script, tmp_path, monkeypatch, turbo_folder)) == 1
    stream_script = DEVICE + """
import torchaudio as ta
from sottovoce.chatterbox import ChatterboxTTS
model = ChatterboxTTS.from_pretrained(device=device)
parts = []
for audio_chunk, metrics in model.generate_stream(
    text="A text to be streamed.", exaggeration=0.7, cfg_weight=0.3, chunk_size=25
):
    parts.append(audio_chunk)
    if metrics.latency_to_first_chunk and metrics.chunk_count == 1:
        print(f"{metrics.latency_to_first_chunk:.3f}")
final = torch.cat(parts, dim=-1)
ta.save("streamed.wav", final, model.sr)
"""
    assert len(run_script(stream_script, tmp_path, monkeypatch, base_folder)) == 1
