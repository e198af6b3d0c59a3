"""When memory goes back."""

from __future__ import annotations

import gc

import pytest

import sottovoce
from conftest import TEXT
from sottovoce import MemoryProfile, StreamingMemoryManager


def test_garbage_is_collected_at_the_interval_and_only_with_audio_in_hand() -> None:
    manager = StreamingMemoryManager(chunk_interval=3, enable_gc=True)
    for _ in range(2):
        manager.chunk_done()
    assert not manager.idle(100.0), "it is not due yet"
    manager.chunk_done()
    assert not manager.idle(0.0), "audio is due"
    assert not manager.idle(-1.0), "audio is late"
    assert manager.gc_collect_count == 0
    assert manager.idle(100.0)
    assert manager.gc_collect_count == 1
    assert not manager.idle(100.0), "once is enough"


def test_without_garbage_collection_none_happens() -> None:
    manager = StreamingMemoryManager(chunk_interval=1, enable_gc=False)
    manager.chunk_done()
    assert not manager.idle(float("inf"))


def test_a_manager_refuses_what_it_cannot_do() -> None:
    with pytest.raises(sottovoce.ArgumentError, match="chunk_interval"):
        StreamingMemoryManager(chunk_interval=0)
    with pytest.raises(sottovoce.ArgumentTypeError, match="enable_gc"):
        StreamingMemoryManager(enable_gc="yes")  # type: ignore[arg-type]


def test_an_engines_collections_are_counted_and_free_cycles() -> None:
    manager = StreamingMemoryManager(chunk_interval=2)
    with sottovoce.Engine(
        "pico", memory="256MiB", device="cpu", threads=1, memory_manager=manager
    ) as engine:
        before = engine.metrics().gc_collect_count
        gc.disable()
        try:
            cycle: list[object] = []
            cycle.append(cycle)
            del cycle
            engine.speak(TEXT, chunk_size=10)
        finally:
            gc.enable()
        assert manager.gc_collect_count >= 1
        assert engine.metrics().gc_collect_count >= before + manager.gc_collect_count


@pytest.mark.parametrize("profile", [*MemoryProfile, "balanced", "auto"])
def test_profiles_are_set_by_member_and_by_name(
    own_engine: sottovoce.Engine, profile: MemoryProfile | str
) -> None:
    own_engine.configure_memory_management(
        profile=profile, enable_monitoring=False, cache_interval=2
    )
    own_engine.speak("Hello.")
    assert own_engine.memory_report().timeline == ()
    own_engine.configure_memory_management(enable_monitoring=True)
    own_engine.speak("Hello.")
    assert len(own_engine.memory_report().timeline) > 0


def test_configuring_refuses_by_name(own_engine: sottovoce.Engine) -> None:
    with pytest.raises(sottovoce.ArgumentError, match="profile"):
        own_engine.configure_memory_management(profile="eager")
    with pytest.raises(sottovoce.ArgumentTypeError, match="cache_interval"):
        own_engine.configure_memory_management(cache_interval="often")  # type: ignore[arg-type]


def test_the_process_configures_engines_that_are_there_and_those_to_come(
    own_engine: sottovoce.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sottovoce.engine._defaults", {})
    sottovoce.configure_memory_management(profile="aggressive", enable_monitoring=False)
    with sottovoce.Engine("pico", memory="256MiB", device="cpu", threads=1) as later:
        for engine in (own_engine, later):
            engine.speak("Hello.")
            assert engine.memory_report().timeline == ()
    with pytest.raises(ValueError):
        sottovoce.configure_memory_management(profile="eager")
