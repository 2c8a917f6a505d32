"""The journal: what goes in comes out, a transaction is all or nothing, and no clock is in what two runs compare."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.evolution.evaluate import Evaluation
from evo.evolution.journal import Candidate, Journal, candidate_id

ONE = Candidate("0000/00", 0, 0, "hash", "document")
TWO = Candidate(
    "0001/07", 1, 7, "other", "text", "patch", ("swap", "number"), ("0000/00", "0000/01"), (("a.", 1, "b."),), 60
)
SCORED = Evaluation("", "", 2.5, 1.7, (0.1, 0.2, 0.3, 0.4, 0.5), 0.9, 0.5, b"\x00bytes", 6, 0.004, 400)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def test_what_goes_in_comes_out(journal: Journal) -> None:
    """Candidates, evaluations with and without a score, summaries, placements and facts are read as written."""
    journal.add_candidates([ONE, TWO])
    assert journal.candidates() == [ONE, TWO]
    assert journal.candidates(1) == [TWO]
    assert journal.candidate("0001/07") == TWO
    journal.add_evaluation(ONE.id, SCORED, 1.5)
    journal.add_evaluation(TWO.id, Evaluation("leak", "outputs depend"), 0.5)
    assert journal.evaluation(ONE.id) == SCORED
    lean = journal.evaluation(ONE.id, with_snapshot=False)
    assert lean is not None
    assert (lean.snapshot, lean.snapshot_bytes, lean.bits_per_byte) == (b"", 6, 2.5)
    failed = journal.evaluation(TWO.id)
    assert failed is not None
    assert (failed.cause, failed.message) == ("leak", "outputs depend")
    assert math.isnan(failed.bits_per_byte)
    journal.add_generation(0, {"best": "x"}, [(ONE.id, 0.5, 0.4, 0.3, 0.2)], [(ONE.id, "result", 3, "new", 0.5)])
    assert (journal.generations(), journal.finished()) == ([{"best": "x"}], 1)
    assert journal.scores() == {ONE.id: {"objective": 0.5, "task": 0.4, "efficiency": 0.3, "gradient": 0.2}}
    assert list(journal.placements()) == [(ONE.id, "result", 3, "new", 0.5)]
    journal.set_fact("a", [1, 2.5])
    journal.set_fact("a", {"b": None})
    assert (journal.fact("a"), journal.fact("c")) == ({"b": None}, None)


def test_what_is_not_there(journal: Journal) -> None:
    """An unknown candidate is a KeyError; one without an evaluation has None."""
    with pytest.raises(KeyError):
        journal.candidate("0009/00")
    assert journal.evaluation("0009/00") is None
    assert journal.candidates(3) == []


def test_a_transaction_is_all_or_nothing(journal: Journal) -> None:
    """A batch with one bad row leaves no row, and the journal goes on."""
    journal.add_candidates([ONE])
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_candidates([TWO, ONE])
    assert journal.candidates() == [ONE]
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_generation(0, {}, [(ONE.id, 0.5, 0.5, 0.5, 0.5)] * 2, [])
    assert (journal.finished(), journal.scores()) == (0, {})
    journal.add_candidates([TWO])


def test_time_is_not_compared(tmp_path: Path) -> None:
    """Two journals that differ in seconds, and in the order in which workers were done, have one dump."""
    dumps = []
    for name, ids, seconds in (("a", ("0000/00", "0001/07"), 1.0), ("b", ("0001/07", "0000/00"), 2.0)):
        journal = Journal(tmp_path / name)
        journal.add_candidates([ONE, TWO])
        for id in ids:
            journal.add_evaluation(id, SCORED, seconds)
        assert set(journal.timings().values()) == {seconds}
        dumps.append(journal.dump())
        journal.close()
    assert dumps[0] == dumps[1]


def test_placements_come_in_the_order_of_placing(journal: Journal) -> None:
    """Slots past 99 come after the ones before, not between them by spelling."""
    rows = [Candidate(candidate_id(0, slot), 0, slot, "h", "d") for slot in range(120)]
    journal.add_candidates(rows)
    journal.add_generation(0, {}, [], [(row.id, "result", 0, "rejected", 0.0) for row in reversed(rows)])
    assert [row[0] for row in journal.placements()] == [row.id for row in rows]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is no database is EVO600; an empty one is an empty journal."""
    (tmp_path / "text").write_text("this is text and no database at all, however long it may be" * 50)
    with pytest.raises(DiagnosticError, match="EVO600"):
        Journal(tmp_path / "text")
    (tmp_path / "empty").touch()
    journal = Journal(tmp_path / "empty")
    assert journal.candidates() == []
    journal.close()
