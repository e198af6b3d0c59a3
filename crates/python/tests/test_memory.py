"""The tools for traces."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import sottovoce
import sottovoce.memory as memory

TRACE = """\
m load
a 0 4096 weight
a 1 3145728 activation
f 1
m chunk 1
a 2 1048576 activation
f 2
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "run.trace"
    path.write_text(TRACE)
    return path


def test_a_trace_is_replayed(trace: Path) -> None:
    replay = memory.replay(trace, conf="")
    assert replay.events == 7
    assert replay.peak_requested == 4096 + 3_145_728
    assert replay.peak_reserved == (2 << 20) + (20 << 20)
    assert replay.recorded is None
    small = memory.replay(str(trace), conf="", device_memory="4MiB")
    assert small.ooms == 1


def test_a_snapshots_dictionary_is_replayed_as_its_file_is(trace: Path, tmp_path: Path) -> None:
    file = tmp_path / "snapshot.pickle"
    conversion = memory.convert(trace, file)
    assert conversion.format == "snapshot" and not conversion.compressed
    snapshot = pickle.loads(file.read_bytes())
    by_file, by_dictionary = memory.replay(file), memory.replay(snapshot)
    assert by_dictionary.recorded == by_file.recorded is not None
    assert by_dictionary.peak_reserved == by_file.peak_reserved == 22 << 20
    assert memory.advise(snapshot).tried == memory.advise(file).tried


def test_advice_compares_with_today_and_draws(trace: Path, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    advice = memory.advise(trace, plot=page)
    assert sum(tried.today for tried in advice.tried) == 1
    assert advice.lower_bound == 4096 + 3_145_728
    assert advice.at_peak.by_tag[0].name == "activation"
    assert advice.recommendation.reason
    assert advice.svg.startswith("<svg")
    shown = advice._repr_html_()
    assert advice.svg in shown and "(today)" in shown
    assert page.read_text().lower().startswith("<!doctype html")


def test_a_plan_is_found_or_its_absence_explained(trace: Path) -> None:
    plan = memory.plan(trace)
    assert plan.lower_bound <= plan.planned_peak
    assert memory.plan(trace, capacity="8MiB").fits is True
    refused = memory.plan(trace, capacity=4096)
    assert refused.fits is False and refused.smallest_subset
    assert memory.plan(trace, begin="chunk").lower_bound == 1 << 20


def test_a_configuration_is_explained() -> None:
    check = memory.check("expandable_segments:True,max_split_size_mb:128")
    assert check.valid and [option.verdict for option in check.options] == ["harms", "harms"]
    wrong = memory.check("foo:1")
    assert not wrong.valid and wrong.error is not None


def test_a_trace_is_converted_and_compressed(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.trace.gz"
    conversion = memory.convert(trace, out, to="text")
    assert conversion.compressed and conversion.bytes == out.stat().st_size
    assert memory.replay(out, conf="").events == 7


@pytest.mark.parametrize(
    "call",
    [
        lambda path: memory.replay(path),
        lambda path: memory.advise(path),
        lambda path: memory.plan(path),
        lambda path: memory.convert(path, path.with_suffix(".pickle")),
    ],
)
def test_files_that_are_no_traces_are_refused(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("nothing of the kind\n")
    for wrong in (path, tmp_path / "missing"):
        with pytest.raises(sottovoce.ToolError):
            call(wrong)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("trace", lambda path: memory.replay(5)),  # type: ignore[arg-type]
        ("trace", lambda path: memory.replay({"no": "snapshot"})),
        ("conf", lambda path: memory.check(5)),  # type: ignore[arg-type]
        ("device", lambda path: memory.replay(path, device=-1)),
        ("clear_every_chunk", lambda path: memory.replay(path, clear_every_chunk=0)),
        (
            "device_memory",
            lambda path: memory.replay(path, device_memory=object()),  # type: ignore[arg-type]
        ),
        ("alignment", lambda path: memory.plan(path, alignment="64")),  # type: ignore[arg-type]
    ],
)
def test_arguments_are_refused_by_name(trace: Path, argument: str, call: Any) -> None:
    with pytest.raises(sottovoce.ArgumentError) as refused:
        call(trace)
    assert refused.value.argument == argument


def test_settings_that_pytorch_would_refuse_are_refused(trace: Path) -> None:
    with pytest.raises(sottovoce.ToolError, match="foo"):
        memory.replay(trace, conf="foo:1")
    with pytest.raises(sottovoce.ToolError):
        memory.check("a:b", platform="plan9")
