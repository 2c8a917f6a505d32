"""What evo wrote itself is known by name and by the marks of a run."""

from pathlib import Path

from evo.base.rundirs import is_run, run_of
from evo.evolution.journal import Journal


def test_a_run_is_known_by_its_settings_or_its_journal(tmp_path: Path) -> None:
    """Either mark is enough; a database or a run.yaml of somebody else is none."""
    (tmp_path / "journal.sqlite").write_bytes(b"SQLite format 3\0" + bytes(200))
    (tmp_path / "run.yaml").write_text("steps: 3\n")
    assert not is_run(tmp_path)
    (tmp_path / "run.yaml").write_text("evo_run: 3\n")
    assert is_run(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    Journal(other / "journal.sqlite").close()
    assert is_run(other)


def test_files_belong_to_a_run_by_name_and_place(tmp_path: Path) -> None:
    """A variant in a generation's folder does; a person's file there, and a report where no run is, do not."""
    (tmp_path / "run.yaml").write_text("evo_run: 3\n")
    assert run_of(tmp_path / "gen_0001" / "variant_00.yaml") == tmp_path
    assert run_of(tmp_path / "report.html") == tmp_path
    assert run_of(tmp_path / "gen_0001" / "mine.txt") is None
    assert run_of(tmp_path / "x" / "report.html") is None
