"""The engine's own calls."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sottovoce
from conftest import TEXT, is_idle, noise, wait_until


def test_a_stream_yields_float32_chunks_with_figures(engine: sottovoce.Engine) -> None:
    chunks = list(engine.stream(TEXT, chunk_size=10))
    assert len(chunks) > 2
    for number, chunk in enumerate(chunks, 1):
        assert chunk.samples.dtype == np.float32 and chunk.samples.ndim == 1
        assert chunk.metrics.chunk_count == number
        assert chunk.sample_rate == 24_000
    samples = sum(len(chunk.samples) for chunk in chunks)
    metrics = chunks[-1].metrics
    assert metrics.total_audio_duration == pytest.approx(samples / 24_000)
    assert 0 < metrics.memory_allocated <= metrics.memory_reserved <= 256 << 20
    assert 0 < metrics.latency_to_first_chunk <= metrics.total_generation_time


def test_speaking_at_once_gives_the_samples_of_the_stream(engine: sottovoce.Engine) -> None:
    streamed = np.concatenate([chunk.samples for chunk in engine.stream(TEXT, seed=3)])
    assert np.array_equal(engine.speak(TEXT, seed=3), streamed)
    assert not np.array_equal(engine.speak(TEXT, seed=4, temperature=1.0), streamed)


def test_samples_belong_to_their_reader_and_outlive_the_engine() -> None:
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as engine:
        samples = engine.speak("Hello.")
    samples *= 2.0
    assert np.abs(samples).max() > 0.01


def test_text_in_pieces_is_one_utterance(engine: sottovoce.Engine) -> None:
    with engine.open_stream(seed=1) as stream:
        for piece in ("Every by", "te has an ow", "ner. "):
            stream.push_text(piece)
        stream.finish()
        pieces = np.concatenate([chunk.samples for chunk in stream])
        with pytest.raises(sottovoce.TextError):
            stream.push_text("more")
    whole = engine.speak(TEXT, seed=1)
    assert np.array_equal(pieces, whole)


def test_what_was_pushed_is_spoken_when_it_is_flushed(engine: sottovoce.Engine) -> None:
    with engine.open_stream() as stream:
        stream.push_text("No end of a sentence")
        stream.flush()
        assert len(next(stream).samples) > 0


def test_a_dropped_stream_gives_its_memory_back(own_engine: sottovoce.Engine) -> None:
    own_engine.speak("Hello.")
    own_engine.trim()
    before = own_engine.memory_report()
    stream = own_engine.stream(TEXT * 20, chunk_size=10)
    next(stream)
    assert own_engine.memory_report().promised_bytes > before.promised_bytes
    del stream
    assert wait_until(lambda: is_idle(own_engine))
    own_engine.trim()
    after = own_engine.memory_report()
    assert after.allocated_bytes == before.allocated_bytes
    assert after.promised_bytes == before.promised_bytes
    assert own_engine.engine_metrics().streams_cancelled == 1


def test_leaving_a_streams_block_ends_it(own_engine: sottovoce.Engine) -> None:
    with own_engine.stream(TEXT * 20) as stream:
        next(stream)
    assert list(stream) == []
    assert wait_until(lambda: is_idle(own_engine))


def test_the_report_adds_up(engine: sottovoce.Engine) -> None:
    engine.speak("Hello.")
    report = engine.memory_report()
    assert report.budget_bytes == 256 << 20
    assert sum(owner["bytes"] for owner in report.owners) == pytest.approx(
        report.allocated_bytes, abs=1 << 20
    )
    assert report.reserved_bytes <= report.reserved_peak_bytes <= 256 << 20
    assert {owner["region"] for owner in report.owners} >= {"weights", "workspace"}
    plan = engine.plan()
    assert plan.streams_fit == engine.streams_max > 0


def test_metrics_have_the_names_that_people_know(engine: sottovoce.Engine) -> None:
    engine.speak("Hello.")
    metrics = engine.metrics()
    assert metrics.peak_reserved_mb >= metrics.peak_allocated_mb > 1
    assert metrics.avg_chunk_memory_mb > 1
    assert metrics.oom_count == 0
    assert 0 <= metrics.fragmentation_ratio < 1


def test_every_figure_of_the_engine_is_here(engine: sottovoce.Engine) -> None:
    native = engine._native
    stream = native.stream("Hello.", None, {})
    spoken = stream.next()
    assert spoken is not None
    beside = {"warnings", "host", "device_bytes", "listener_bytes"}
    for figures, kind in (
        (spoken[1], sottovoce.ChunkMetrics),
        (native.memory_report(), sottovoce.MemoryReport),
        (native.plan(), sottovoce.MemoryPlan),
        (native.metrics(), sottovoce.EngineMetrics),
        (native.metrics()["memory"], sottovoce.MemoryMetrics),
    ):
        names = {field.name for field in dataclasses.fields(kind)}
        assert set(figures) - {"memory"} | beside == names | beside, kind


def test_trimming_gives_back_and_is_counted(own_engine: sottovoce.Engine) -> None:
    own_engine.speak("Hello.")
    clears = own_engine.metrics().cache_clear_count
    assert own_engine.trim() >= 0
    own_engine.speak("Hello.")
    assert own_engine.metrics().cache_clear_count > clears


def test_a_closed_engine_says_so(own_engine: sottovoce.Engine) -> None:
    stream = own_engine.stream(TEXT * 20)
    next(stream)
    own_engine.close()
    own_engine.close()
    assert own_engine.closed
    with pytest.raises(sottovoce.StoppedError):
        list(stream)
    for call in (own_engine.trim, own_engine.metrics, lambda: own_engine.speak("Hello.")):
        with pytest.raises(sottovoce.ClosedError, match="engine was closed"):
            call()


def test_two_engines_speak_and_keep_their_voices_apart(
    engine: sottovoce.Engine, own_engine: sottovoce.Engine
) -> None:
    assert np.array_equal(engine.speak("Hello."), own_engine.speak("Hello."))
    with pytest.raises(sottovoce.VoiceError):
        engine.stream("Hello.", own_engine.voice())


def test_a_budget_that_is_too_small_is_refused_with_the_numbers() -> None:
    with pytest.raises(sottovoce.BudgetError) as refused:
        sottovoce.Engine("pico", memory="4MiB", device="cpu")
    assert refused.value.budget_bytes == 4 << 20
    assert refused.value.needed_bytes > 4 << 20
    assert isinstance(refused.value, MemoryError)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("speed", 5.0, sottovoce.ArgumentError),
        ("speed", float("nan"), sottovoce.ArgumentError),
        ("temperature", "hot", sottovoce.ArgumentTypeError),
        ("temperature", True, sottovoce.ArgumentTypeError),
        ("top_k", -1, sottovoce.ArgumentError),
        ("top_k", 2.5, sottovoce.ArgumentTypeError),
        ("seed", 2**64, sottovoce.ArgumentError),
        ("seed", [1], sottovoce.ArgumentTypeError),
        ("chunk_size", 0, sottovoce.ArgumentError),
        ("chunk_size", 251, sottovoce.ArgumentError),
        ("buffered_chunks_max", 0, sottovoce.ArgumentError),
        ("memory_management", "yes", sottovoce.ArgumentTypeError),
        ("when_full", "panic", sottovoce.ArgumentError),
        ("when_full", 3, sottovoce.ArgumentTypeError),
        ("fade_duration", np.zeros(3), sottovoce.ArgumentTypeError),
    ],
)
def test_a_stream_refuses_an_option_by_name(
    engine: sottovoce.Engine, option: str, value: Any, kind: type[sottovoce.ArgumentError]
) -> None:
    with pytest.raises(kind) as refused:
        engine.open_stream(**{option: value})
    assert refused.value.argument == option and option in str(refused.value)


def test_numpys_numbers_are_numbers(engine: sottovoce.Engine) -> None:
    spoken = engine.speak("Hello.", seed=np.int64(7), temperature=np.float32(0.8))
    assert np.array_equal(spoken, engine.speak("Hello.", seed=7, temperature=0.8))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("memory", "much", sottovoce.ArgumentError),
        ("memory", -1, sottovoce.ArgumentError),
        ("memory", 1.5, sottovoce.ArgumentTypeError),
        ("device", "tpu", sottovoce.ArgumentError),
        ("precision", "f8", sottovoce.ArgumentError),
        ("precision", 8, sottovoce.ArgumentTypeError),
        ("profile", "eager", sottovoce.ArgumentError),
        ("threads", 10**6, sottovoce.ArgumentError),
        ("streams_max", 10**6, sottovoce.ArgumentError),
        ("key_value_precision", "f64", sottovoce.ArgumentError),
        ("cache_interval", 2**40, sottovoce.ArgumentError),
        ("voices", 3, sottovoce.ArgumentTypeError),
        ("memory_manager", object(), sottovoce.ArgumentTypeError),
    ],
)
def test_an_engine_refuses_an_option_by_name(
    option: str, value: Any, kind: type[sottovoce.ArgumentError]
) -> None:
    options: dict[str, Any] = {"device": "cpu"}
    with pytest.raises(kind) as refused:
        sottovoce.Engine("pico", **(options | {option: value}))
    assert refused.value.argument in (option, "cache_precision")


def test_a_text_of_marks_alone_is_a_short_silence(engine: sottovoce.Engine) -> None:
    samples = engine.speak("?!")
    assert 0 < samples.size < 24_000 and not samples.any()


@pytest.mark.parametrize("text", ["", "   ", "x" * 100_001])
def test_a_text_without_speech_is_refused(engine: sottovoce.Engine, text: str) -> None:
    with pytest.raises(sottovoce.TextError) as refused:
        engine.stream(text)
    assert refused.value.argument == "text"


@pytest.mark.parametrize("text", [None, 5, b"bytes", ["list"]])
def test_a_text_that_is_none_is_refused(engine: sottovoce.Engine, text: Any) -> None:
    with pytest.raises(sottovoce.ArgumentTypeError, match="text"):
        engine.stream(text)


@pytest.mark.parametrize("text", ["\ud800 lone", "a\0b hello"])
def test_odd_characters_are_spoken_or_refused(engine: sottovoce.Engine, text: str) -> None:
    try:
        assert engine.speak(text).dtype == np.float32
    except sottovoce.ArgumentError as refused:
        assert refused.argument == "text"


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    for model in ("nosuch", tmp_path, "synthetic:huge", ""):
        with pytest.raises(sottovoce.ArgumentError):
            sottovoce.Engine(model, device="cpu")
    with pytest.raises(sottovoce.ArgumentTypeError, match="model"):
        sottovoce.Engine(7, device="cpu")  # type: ignore[arg-type]
    with pytest.raises(sottovoce.ArgumentError, match="NUL"):
        sottovoce.Engine("a\0b", device="cpu")
    with pytest.raises(sottovoce.ArgumentError, match="path"):
        sottovoce.Engine("a\ud800b", device="cpu")


def test_a_voice_from_an_array_is_that_of_its_file(base: sottovoce.Engine, tmp_path: Path) -> None:
    samples = noise()
    spoken = base.speak("Hello.", base.voice(samples, sample_rate=24_000))
    for same in (
        samples.astype(np.float64),
        samples.astype(">f4"),
        samples[np.newaxis],
        np.stack([samples, samples], axis=1),
        np.repeat(samples, 2)[::2],
    ):
        voice = base.voice(same, sample_rate=24_000)
        assert np.array_equal(base.speak("Hello.", voice), spoken)
    kept = tmp_path / "voice.safetensors"
    base.voice(samples, sample_rate=24_000).save(kept)
    assert np.array_equal(base.speak("Hello.", kept), spoken)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.float32(1.0) * np.ones(()), "dimensions"),
        (np.zeros((2, 3, 4), np.float32), "dimensions"),
        (np.zeros(0, np.float32), "no samples"),
        (np.full(200_000, np.nan, np.float32), "finite"),
        (np.full(200_000, np.inf), "finite"),
        (np.full(200_000, 1e300), "finite"),
        (np.zeros(200_000, np.complex64), "dtype"),
        (np.zeros(200_000, bool), "dtype"),
        (np.array(["a", "b"]), "dtype"),
        (np.array([object()]), "dtype"),
        (np.zeros((40, 40), np.float32), "channels"),
    ],
)
def test_an_array_that_is_no_recording_is_refused_by_name(
    base: sottovoce.Engine, array: Any, reason: str
) -> None:
    with pytest.raises(sottovoce.ArgumentError, match=reason) as refused:
        base.voice(array, sample_rate=24_000)
    assert refused.value.argument == "source"


def test_recordings_that_give_no_voice_are_refused(
    base: sottovoce.Engine, engine: sottovoce.Engine, tmp_path: Path
) -> None:
    silent = np.zeros(200_000, np.float32)
    text_file = tmp_path / "notes.wav"
    text_file.write_text("no recording")
    for source in (b"", b"RIFF", text_file):
        with pytest.raises(sottovoce.VoiceError):
            base.voice(source)
    with pytest.raises(sottovoce.VoiceError):
        base.voice(silent, sample_rate=24_000)
    with pytest.raises(sottovoce.FileError) as missing:
        base.voice(tmp_path / "missing.wav")
    assert missing.value.filename == str(tmp_path / "missing.wav")
    assert missing.value.errno == 2
    with pytest.raises(sottovoce.ArgumentError, match="sample_rate"):
        base.voice(silent)
    with pytest.raises(sottovoce.ArgumentTypeError, match="sample_rate"):
        base.voice(silent, sample_rate=np.array([24_000]))  # type: ignore[arg-type]
    with pytest.raises(sottovoce.ArgumentTypeError, match="source"):
        base.voice(5)
    with pytest.raises(sottovoce.VoiceError):
        engine.voice(noise(), sample_rate=24_000)
    with pytest.raises(sottovoce.FileError):
        engine.voice().save(tmp_path / "missing" / "own.safetensors")
    with pytest.raises(sottovoce.ArgumentTypeError, match="voice"):
        engine.stream("Hello.", 5)  # type: ignore[arg-type]


def test_options_that_do_nothing_are_named(
    engine: sottovoce.Engine, base: sottovoce.Engine
) -> None:
    assert engine.options_without_effect == []
    with base.stream("Hello.", top_k=5, exaggeration=1.5) as stream:
        assert stream.options_without_effect == ["top_k"]


def test_engines_and_streams_cannot_be_pickled(engine: sottovoce.Engine) -> None:
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(engine)


def test_errors_are_of_the_kinds_that_python_knows() -> None:
    assert issubclass(sottovoce.ArgumentError, ValueError)
    assert issubclass(sottovoce.ArgumentTypeError, TypeError)
    assert issubclass(sottovoce.OutOfMemoryError, MemoryError)
    assert issubclass(sottovoce.FileError, OSError)
    for name in sottovoce.errors.__all__:
        assert issubclass(getattr(sottovoce.errors, name), sottovoce.SottovoceError)


def test_the_package_takes_no_more_than_it_needs_when_it_is_imported() -> None:
    program = (
        "import sys, sottovoce\n"
        "assert not {'asyncio', 'torch', 'sottovoce.memory'} & set(sys.modules)\n"
        "assert sottovoce.memory.check('').valid and sottovoce.chatterbox.ChatterboxTTS\n"
        "assert not hasattr(sottovoce, 'nosuch')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_public_thing_says_what_it_is() -> None:
    for name in sottovoce.__all__:
        thing = getattr(sottovoce, name)
        if isinstance(thing, type):
            assert thing.__doc__, name
            for member, value in vars(thing).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{member}"


def test_recorded_speech_is_spoken_again_in_another_voice(base: sottovoce.Engine) -> None:
    speech = noise(2.0, 16_000)
    changed = base.change_voice(speech, sample_rate=16_000, seed=3)
    assert changed.dtype == np.float32 and changed.shape == (2 * 24_000,)
    again = base.change_voice(speech, sample_rate=16_000, seed=3)
    assert np.array_equal(changed, again)
    with base.stream_voice_change(speech, sample_rate=16_000, chunk_size=10, seed=3) as stream:
        chunks = list(stream)
    assert len(chunks) > 1 and chunks[-1].metrics.tokens == 50


def test_what_cannot_be_heard_is_refused(
    base: sottovoce.Engine, engine: sottovoce.Engine, tmp_path: Path
) -> None:
    with pytest.raises(sottovoce.RecordingError, match="not a recording"):
        base.change_voice(b"no sound at all")
    with pytest.raises(sottovoce.FileError):
        base.change_voice(tmp_path / "none.wav")
    with pytest.raises(sottovoce.ArgumentError, match="sample_rate"):
        base.change_voice(noise(1.0))
    with pytest.raises(sottovoce.ArgumentTypeError):
        base.change_voice(5)
    with pytest.raises(sottovoce.RecordingError, match="base, turbo and nano"):
        engine.change_voice(noise(1.0), sample_rate=24_000)
