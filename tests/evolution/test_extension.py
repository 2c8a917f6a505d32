"""Runs that go on: a finished run is extended, and what was recorded of it stays."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from searches import Quiet, dump, seed_document, settings, variants

from evo.base.diagnostics import DiagnosticError
from evo.evolution import run
from evo.evolution.extension import generations_at, spans
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two generations."""
    path = tmp_path_factory.mktemp("run") / "run"
    run.start(path, settings(seed_document(), generations=2, cells=None), Quiet())
    return path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


class StopError(Exception):
    """The run is stopped."""


class Stopping(Quiet):
    """Ends the run after so many evaluations."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def evaluated(self, trial: Any, evaluation: Any, seconds: float) -> None:
        self.left -= 1
        if not self.left:
            raise StopError


def test_a_run_goes_on(finished: Path, copy: Path) -> None:
    """Two generations more: the first stay as they were, the schedule is recomputed and said."""
    before, files = dump(finished), variants(finished)
    seen = Quiet()
    run.resume(copy, seen, generations=4)
    after = dump(copy)
    for table in ("candidates", "trials", "evaluations", "scores", "placements", "generations"):
        assert set(before[table]) < set(after[table])
    stay = {name: digest for name, digest in files.items() if ".exact." not in name}  # these follow the ranks
    assert stay.items() < variants(copy).items()
    assert len(after["generations"]) == 5
    assert any("extended from 2 to 4 generations" in warning for warning in seen.warnings)
    assert RunDirectory(copy).load().evolve.generations == 4
    with closing(Journal(RunDirectory(copy).journal_file)) as journal:
        assert [(s.first, s.generations) for s in spans(journal, 4)] == [(0, 2), (3, 4)]
        assert [generations_at(journal, n, 4) for n in range(5)] == [2, 2, 2, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4])
def test_an_extension_that_is_stopped_ends_the_same(copy: Path, tmp_path: Path, after: int) -> None:
    """Stopped anywhere and resumed without a word it ends the same, also where run.yaml lags behind."""
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    early = (copy / "run.yaml").read_text()
    run.resume(other, Quiet(), generations=4)
    with pytest.raises(StopError):
        run.resume(copy, Stopping(after), generations=4)
    (copy / "run.yaml").write_text(early)
    run.resume(copy, Quiet())
    assert dump(copy) == dump(other)
    assert variants(copy) == variants(other)
    assert (copy / "run.yaml").read_text() == (other / "run.yaml").read_text()


def test_extended_twice(copy: Path) -> None:
    """Asked for what it has, nothing happens; asked for more again, it goes on again; fewer is refused."""
    as_it_was = dump(copy)
    run.resume(copy, Quiet(), generations=2)
    assert dump(copy) == as_it_was
    run.resume(copy, Quiet(), generations=3)
    run.resume(copy, Quiet(), generations=4)
    with pytest.raises(DiagnosticError, match=r"one of 4 generations"):
        run.resume(copy, Quiet(), generations=3)
    with closing(Journal(RunDirectory(copy).journal_file)) as journal:
        assert [(s.first, s.generations) for s in spans(journal, 4)] == [(0, 2), (3, 3), (4, 4)]


def test_generations_that_were_edited_are_refused(copy: Path) -> None:
    """Another number in run.yaml than the journal knows is EVO603, as any other setting."""
    text = (copy / "run.yaml").read_text()
    assert "generations: 2" in text
    (copy / "run.yaml").write_text(text.replace("generations: 2", "generations: 5"))
    with pytest.raises(DiagnosticError, match="other settings"):
        run.resume(copy, Quiet())


def test_another_limit_is_kept(copy: Path) -> None:
    """`max_seconds` may be raised; run.yaml holds it from then on."""
    run.resume(copy, Quiet(), max_seconds=99.0)
    assert RunDirectory(copy).load().max_seconds == 99.0
