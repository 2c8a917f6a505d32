"""Makes `copying` importable by name, and a kind of task while a test runs."""

import sys
from pathlib import Path

import pytest

from evo.dsl.index import KINDS

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index has the task `copy`."""
    monkeypatch.setitem(KINDS["task"], "copy", "copying:CopySpec")
