"""The journal: what goes in comes out, a transaction is all or nothing, and no clock is in what two runs compare."""

from __future__ import annotations

import math
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import pytest

from evo.base.diagnostics import DiagnosticError
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.fitness import Terms
from evo.evolution.journal import VERSION, Journal, Placed
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Start, Trial, WeightsRef
from evo.slime.lives import Lived

ONE = Candidate("0000/00", 0, 0, "hash", "document")
TWO = Candidate(
    "0001/07", 1, 7, "other", "text", "patch", ("swap", "number"), ("0000/00", "0000/01"), (("a.", 1, "b."),)
)
FIRST = Trial(ONE, 0, 30)
SECOND = Trial(TWO, 0, 40, Start((WeightsRef("0000/00"), WeightsRef("0000/01", 1)), (("a.", 1, "b."),), 60))
HIGHER = Trial(ONE, 1, 90, Start((FIRST.ref,), (), 30, 1e12), (30, 90), 20)
SCORED = Evaluation(
    "",
    "",
    {"bits_per_byte": 2.5, "train_loss": 1.7, "loss.b": math.inf},
    (0.1, 0.2),
    b"\x00bytes",
    ((10, 3.25), (30, 2.5)),
    (Lived("pool", 0, "s0", 0), Lived("pool", 1, "b4.1", 4, 8, "s0", "cull")),
)
TERMS = Terms(task=0.4, efficiency=0.3, gradient=0.2, objective=0.5)


def summary(generation: int) -> Summary:
    """The summary of a generation."""
    return Summary(generation, 0.1, 1, 0, 0.5, 0.5, 0.5, "0000/00", 2.5, "0000/00", 1, 0)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    opened = Journal(tmp_path / "journal.sqlite")
    yield opened
    opened.close()


def test_what_goes_in_comes_out(journal: Journal) -> None:
    """Candidates, trials, evaluations with and without scores, summaries, placements and facts are read as written."""
    journal.add_candidates([ONE, TWO])
    assert journal.candidates() == [ONE, TWO]
    assert journal.candidates(1) == [TWO]
    assert journal.candidate("0001/07") == TWO
    journal.add_trials(0, [FIRST])
    journal.add_trials(1, [SECOND, HIGHER])
    assert journal.trials() == [FIRST, SECOND, HIGHER]
    assert (journal.trials(0), journal.trial(SECOND.ref)) == ([FIRST], SECOND)
    journal.add_evaluation(FIRST.ref, SCORED, 1.5)
    journal.add_evaluation(SECOND.ref, Evaluation("leak", "outputs depend", {"inherited": 0.5}), 0.5)
    assert journal.evaluation(FIRST.ref) == SCORED
    lean = journal.evaluation(FIRST.ref, with_snapshot=False)
    assert lean is not None
    assert (lean.snapshot, lean.scores) == (b"", SCORED.scores)
    assert journal.evaluation(SECOND.ref) == Evaluation("leak", "outputs depend", {"inherited": 0.5})
    assert (journal.rung(ONE.id), journal.rung(TWO.id)) == (0, None)
    placed = Placed(FIRST.ref, "result", 3, "new", 0.5, True)
    journal.add_generation(summary(0), {FIRST.ref: TERMS}, [placed])
    assert (journal.generations(), journal.finished()) == ([summary(0)], 1)
    assert (journal.terms(FIRST.ref), journal.terms(SECOND.ref)) == (TERMS, None)
    assert list(journal.placements()) == [placed]
    assert journal.evaluation(FIRST.ref) == SCORED
    journal.set_fact("a", [1, 2.5])
    journal.set_fact("a", {"b": None})
    assert (journal.fact("a"), journal.fact("c")) == ({"b": None}, None)


def test_rungs_are_apart(journal: Journal) -> None:
    """A candidate has an evaluation for each rung, and its highest rung with scores is known; NaN comes back."""
    journal.add_candidates([ONE])
    journal.add_trials(0, [FIRST, HIGHER])
    journal.add_evaluation(FIRST.ref, SCORED, 1.0)
    assert (journal.is_evaluated(FIRST.ref), journal.is_evaluated(HIGHER.ref)) == (True, False)
    journal.add_evaluation(HIGHER.ref, Evaluation("", "", {"bits_per_byte": 2.0, "odd": math.nan}), 2.0)
    assert journal.rung(ONE.id) == 1
    found = journal.evaluation(HIGHER.ref)
    assert found is not None
    assert found.scores["bits_per_byte"] == 2.0
    assert math.isnan(found.scores["odd"])
    assert journal.evaluation(FIRST.ref) == SCORED
    assert {ref: timing.seconds for ref, timing in journal.timings().items()} == {FIRST.ref: 1.0, HIGHER.ref: 2.0}


def test_what_is_not_there(journal: Journal) -> None:
    """An unknown candidate or trial is a KeyError; one without an evaluation has None."""
    with pytest.raises(KeyError):
        journal.candidate("0009/00")
    with pytest.raises(KeyError):
        journal.trial(WeightsRef("0009/00"))
    assert journal.evaluation(WeightsRef("0009/00")) is None
    assert journal.candidates(3) == []


def test_a_transaction_is_all_or_nothing(journal: Journal) -> None:
    """A batch with one bad row leaves no row, and the journal goes on."""
    journal.add_candidates([ONE])
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_candidates([TWO, ONE])
    assert journal.candidates() == [ONE]
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_trials(0, [FIRST, FIRST])
    assert journal.trials() == []
    placed = Placed(FIRST.ref, "result", 3, "new", 0.5, True)
    journal.add_generation(summary(1), {}, [])
    with pytest.raises(sqlite3.IntegrityError):
        journal.add_generation(summary(1), {FIRST.ref: TERMS}, [placed])
    assert (journal.finished(), journal.terms(FIRST.ref), list(journal.placements())) == (1, None, [])
    journal.add_candidates([TWO])


def test_time_is_not_compared(tmp_path: Path) -> None:
    """Two journals that differ in seconds, and in the order in which workers were done, have one dump."""
    dumps = []
    for name, trials, seconds in (("a", (FIRST, SECOND), 1.0), ("b", (SECOND, FIRST), 2.0)):
        journal = Journal(tmp_path / name)
        journal.add_candidates([ONE, TWO])
        journal.add_trials(0, [FIRST, SECOND])
        for trial in trials:
            journal.add_evaluation(trial.ref, SCORED, seconds)
        assert {timing.seconds for timing in journal.timings().values()} == {seconds}
        dumps.append(journal.dump())
        journal.close()
    assert dumps[0] == dumps[1]


def test_placements_come_in_the_order_of_placing(journal: Journal) -> None:
    """As they were given, past slot 99 as well, and generation by generation: a candidate may be placed again."""
    rows = [Candidate(candidate_id(0, slot), 0, slot, "h", "d") for slot in range(120)]
    journal.add_candidates(rows)
    journal.add_trials(0, [Trial(row, 0, 1) for row in rows])
    placed = [Placed(WeightsRef(row.id), "result", 0, "rejected", 0.0, False) for row in reversed(rows)]
    again = Placed(WeightsRef(rows[0].id), "result", 1, "new", 0.5, True)
    journal.add_generation(summary(0), {}, placed)
    journal.add_generation(summary(1), {}, [again])
    assert list(journal.placements()) == [*placed, again]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A file that is no database is EVO600; an empty one is an empty journal."""
    (tmp_path / "text").write_text("this is text and no database at all, however long it may be" * 50)
    with pytest.raises(DiagnosticError, match="EVO600"):
        Journal(tmp_path / "text")
    (tmp_path / "empty").touch()
    journal = Journal(tmp_path / "empty")
    assert journal.candidates() == []
    journal.close()


def test_one_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    """It is said so, and none is made."""
    with pytest.raises(DiagnosticError, match="EVO600 there is no journal"):
        Journal(tmp_path / "journal.sqlite", only_read=True)
    assert not list(tmp_path.iterdir())


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A journal of an older or a newer schema is EVO600 with both versions named, and is left as it was."""
    for version in (0, VERSION - 1, VERSION + 1):
        path = tmp_path / str(version)
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE candidates (id TEXT)")
            db.execute(f"PRAGMA user_version={version}")
        db.close()
        before = path.read_bytes()
        with pytest.raises(DiagnosticError, match=f"EVO600 .*its version is {version}, .* reads version {VERSION}"):
            Journal(path)
        assert path.read_bytes() == before


def test_a_full_disk_and_a_lock_are_not_faults_of_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """EVO007 and EVO605, after which the journal goes on: never EVO600, which invites deleting it."""
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, timeout=0))
    journal = Journal(tmp_path / "j")
    journal._db.execute(f"PRAGMA max_page_count={journal._db.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(DiagnosticError, match="EVO007"):
        journal.set_fact("large", "x" * 100_000)
    journal._db.execute("PRAGMA max_page_count=1000000")
    journal.set_fact("large", "x" * 100_000)
    other = sqlite3.connect(tmp_path / "j", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DiagnosticError, match="EVO605"):
        journal.set_fact("small", 1)
    with pytest.raises(DiagnosticError, match="EVO605"):
        Journal(tmp_path / "j")
    other.execute("ROLLBACK")
    other.close()
    journal.set_fact("small", 1)
    assert journal.fact("small") == 1
    journal.close()


EDITS = (
    "UPDATE scores SET value = value - 0.5 WHERE rowid = 1",
    "DELETE FROM generations WHERE generation = 1",
    "DELETE FROM scores WHERE rowid = 2",
    "UPDATE candidates SET patch = '{'",
    "UPDATE evaluations SET snapshot = x'00'",
    "UPDATE facts SET value = '[[1]]' WHERE key = 'centroids'",
    "ALTER TABLE timings DROP COLUMN seconds",
    "DROP TABLE placements",
)


@pytest.mark.parametrize("edit", EDITS)
def test_a_journal_that_was_changed_is_refused(whole: Path, tmp_path: Path, edit: str) -> None:
    """B12: EVO600 at opening for every row or table that is not as it was written."""
    shutil.copy(whole / "journal.sqlite", tmp_path / "j")
    Journal(tmp_path / "j").close()
    with closing(sqlite3.connect(tmp_path / "j")) as db, db:
        db.execute(edit)
    with pytest.raises(DiagnosticError, match="EVO600"):
        Journal(tmp_path / "j")


def test_flipped_bits_are_noticed_or_change_nothing(whole: Path, tmp_path: Path) -> None:
    """Sixty random bits, one at a time: the journal says the same, or it is refused; none is silently another."""
    data = (whole / "journal.sqlite").read_bytes()
    journal = Journal(whole / "journal.sqlite")
    expected = journal.dump()
    journal.close()
    random, refusals = Random(7), list[str]()
    for _ in range(60):
        at = random.randrange(8 * len(data))
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        (tmp_path / "j").write_bytes(changed)
        try:
            journal = Journal(tmp_path / "j")
        except DiagnosticError as error:
            refusals.append(error.diagnostics[0].code)
            continue
        assert journal.dump() == expected
        journal.close()
    assert len(refusals) > 20
    assert set(refusals) <= {"EVO600", "EVO004", "EVO007"}


def test_failures_are_forgotten_by_cause() -> None:
    """B13: a seed that crashed is asked for again; one that leaks is not."""
    journal = Journal(":memory:")
    candidates = [Candidate(f"0000/0{slot}", 0, slot, str(slot), "evo: 1\n") for slot in range(3)]
    journal.add_candidates(candidates)
    journal.add_trials(0, [Trial(candidate, 0, 1) for candidate in candidates])
    for candidate, cause in zip(candidates, ("crash", "leak", ""), strict=True):
        scores = {} if cause else {"bits_per_byte": 1.0}
        journal.add_evaluation(WeightsRef(candidate.id), Evaluation(cause, "", scores), 1.0)
    journal.forget_failures(0, ("crash", "timeout"))
    assert [journal.is_evaluated(WeightsRef(candidate.id)) for candidate in candidates] == [False, True, True]
    journal.add_evaluation(WeightsRef("0000/00"), Evaluation("leak"), 1.0)
