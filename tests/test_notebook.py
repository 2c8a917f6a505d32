"""The notebook in examples/: its cells run from the first to the last, and it is kept without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "from_python.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_kept_clean() -> None:
    """No outputs, no counts, and a name for every cell, as version 4.5 of the format asks."""
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert all((cell["outputs"], cell["execution_count"]) == ([], None) for cell in code)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


@pytest.mark.slow
def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In an empty folder, one after the other."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in CELLS:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert "bits_per_byte" in capsys.readouterr().out
