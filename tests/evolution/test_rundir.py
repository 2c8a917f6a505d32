"""A run directory: only what evo wrote is ever removed or replaced."""

from pathlib import Path

import pytest
from searches import settings

from evo.base.diagnostics import DiagnosticError
from evo.evolution.rundir import RunDirectory


def test_nothing_is_removed_where_no_run_is(tmp_path: Path) -> None:
    """Files that are named as evo's stay in a folder that never held a run, and a new run refuses to overwrite them."""
    mine = [tmp_path / name for name in ("report.html", "gen_0001/variant_00.yaml", "gen_20240101/x.txt")]
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    directory = RunDirectory(tmp_path)
    directory.remove()
    assert [file.read_text() for file in mine] == ["mine"] * 3
    with pytest.raises(DiagnosticError, match=r"EVO601.*no run that wrote it"):
        directory.create(settings(), {})


def test_a_persons_files_in_a_run_stay(tmp_path: Path) -> None:
    """Of a run everything that evo wrote goes; notes beside the variants stay, and a new run may begin."""
    directory = RunDirectory(tmp_path)
    directory.create(settings(), {})
    (tmp_path / "gen_0001").mkdir()
    (tmp_path / "gen_0002").mkdir()
    for name in ("gen_0001/variant_00.yaml", "gen_0001/.variant_00.yaml.abc", "gen_0002/variant_00.safetensors"):
        (tmp_path / name).write_text("evo's")
    (tmp_path / "gen_0001" / "notes.txt").write_text("mine")
    (tmp_path / "report.html").write_text("evo's")
    directory.remove()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "gen_0001",
        "gen_0001/notes.txt",
    ]
    directory.create(settings(), {})


@pytest.mark.parametrize("left", [None, b""])
def test_a_run_whose_journal_is_gone_is_not_begun_anew(tmp_path: Path, left: bytes | None) -> None:
    """Hours of work would be written over without a word."""
    directory = RunDirectory(tmp_path / "run")
    (directory.path / "gen_0001").mkdir(parents=True)
    if left is not None:
        directory.journal_file.write_bytes(left)
    with pytest.raises(DiagnosticError, match=r"EVO600 .* its journal is gone or empty"):
        directory.require_journal()


def test_a_run_that_was_stopped_before_its_first_generation_needs_no_journal(tmp_path: Path) -> None:
    """Nothing is lost by beginning."""
    tmp_path.joinpath("run").mkdir()
    RunDirectory(tmp_path / "run").require_journal()
