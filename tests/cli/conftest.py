"""Runs commands in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evo.cli.app import main

GOOD = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture
def evo(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `evo` with arguments."""

    def run(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A small valid document."""
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A document with two errors."""
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("attention", "atention").replace("  width", "  depth: 3\n  width"))
    return path
