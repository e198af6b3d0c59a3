"""The command line that the package carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

import sottovoce


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sottovoce", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_it_has_help_and_a_version() -> None:
    assert "speak" in run("--help").stdout
    assert run("--version").stdout.split()[-1] == sottovoce.__version__
    script = Path(sys.executable).with_name("sottovoce")
    if script.exists():
        asked = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
        assert asked.stdout.split()[-1] == sottovoce.__version__


def test_it_speaks(tmp_path: Path, engine: sottovoce.Engine) -> None:
    out = tmp_path / "hello.wav"
    spoken = run("speak", "Hello.", "--out", str(out), "--json", "--threads", "1")
    assert spoken.returncode == 0, spoken.stderr
    assert json.loads(spoken.stdout)
    with wave.open(str(out)) as file:
        assert file.getframerate() == 24_000
        assert file.getnframes() == len(engine.speak("Hello."))


def test_mistakes_end_with_its_own_statuses() -> None:
    assert run("nosuch").returncode == 2
    wrong = run("memory", "replay", "missing.trace")
    assert wrong.returncode == 1 and "missing.trace" in wrong.stderr
    assert run("memory", "check", "foo:1").returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_a_reader_that_leaves_ends_it_quietly() -> None:
    command = f"{sys.executable} -m sottovoce memory check expandable_segments:True | head -n 0"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr
