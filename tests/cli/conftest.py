"""Documents for commands to read."""

from pathlib import Path

import pytest

GOOD = "evo: 1\norganism:\n  width: 64\n  stages:\n    - name: body\n      mix: {kind: attention, heads: 2}\n"


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
