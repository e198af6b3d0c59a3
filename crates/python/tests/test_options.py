"""Every option of the engine is here, under its own name."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest

import sottovoce
from sottovoce import _native

GENERATOR = Path(__file__).parents[1] / "generate.py"


@pytest.mark.parametrize(
    ("table", "call"),
    [
        ("engine", sottovoce.Engine.__init__),
        ("stream", sottovoce.Engine.stream),
        ("stream", sottovoce.Engine.open_stream),
        ("stream", sottovoce.Engine.speak),
        ("change", sottovoce.Engine.change_voice),
        ("change", sottovoce.Engine.stream_voice_change),
    ],
)
def test_signatures_have_each_option_with_its_default(table: str, call: object) -> None:
    parameters = inspect.signature(call).parameters  # type: ignore[arg-type]
    changed = {"memory": "1GiB", "device": "auto"}
    for option in _native.option_tables()[table]:
        parameter = parameters[option["name"]]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == changed.get(option["name"], option["default"])


def test_help_says_what_each_option_does() -> None:
    documentation = inspect.getdoc(sottovoce.Engine.stream)
    assert documentation is not None
    for option in _native.option_tables()["stream"]:
        assert f"\n{option['name']}\n    " in documentation


def test_the_generated_calls_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = generate.TARGET.read_text(encoding="utf-8")
    assert written == generate.source(), "run python generate.py"
