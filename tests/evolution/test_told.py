"""Workers that lie: what cannot be true is a failure with its cause, and the run goes on as ever."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from searches import Quiet, settings

from evo.engines.jobs import Job, Outcome, answered
from evo.evolution import run
from evo.evolution.evaluate import TrialJob, evaluate
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.told import told
from evo.evolution.trial import Evaluation
from evo.report.search import write_reports
from evo.tasks.bytes.spec import BytesSpec

BITS = BytesSpec.primary
NAN = float("nan")
HONEST = Evaluation(scores={"bits_per_byte": 2.0, "gradient_evenness": 1.0}, measures=(0.1, 0.2, 0.3, 0.4, 0.5))
LIES: dict[str, tuple[Callable[[Evaluation], object], str]] = {
    "0001/00": (lambda own: replace(own, scores={**own.scores, "bits_per_byte": NAN}), "its bits per byte is nan"),
    "0001/01": (lambda own: replace(own, measures=own.measures[:2]), "its measures are"),
    "0001/02": (lambda own: replace(own, snapshot=own.snapshot[:-1] + b"!"), "its digest does not match"),
    "0002/02": (lambda own: replace(own, scores={"bits_per_byte": 2.0}), "its gradient evenness is None"),
    "0002/00": (lambda own: own.scores, "it is of the type dict"),
    "0002/01": (lambda own: replace(own, scores={}), "its bits per byte is None"),
}
"""By candidate: what a worker makes of an honest answer, and what is said of it."""


def lying(job: TrialJob) -> object:
    """An evaluation of which some workers tell something else."""
    honest = evaluate(job)
    lie = LIES.get(dict(job.metadata)["candidate"])
    return lie[0](honest) if lie else honest


def test_a_run_among_liars_while_the_clock_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lie is an error with its reason, has no score and no cell, and nobody descends from it; hours that come
    again, as in autumn, cost nothing."""
    clock = itertools.cycle([2e9, 1e9, 3e9])
    monkeypatch.setattr("evo.evolution.journal.time.time", lambda: next(clock))
    run.start(tmp_path / "run", settings(), Quiet(), evaluate="test_told:lying")
    journal = Journal(RunDirectory(tmp_path / "run").journal_file)
    found = {trial.candidate.id: journal.evaluation(trial.ref) for trial in journal.trials()}
    tables = journal.dump()
    journal.close()
    for id, (_, reason) in LIES.items():
        own = found.pop(id)
        assert own is not None
        assert own.cause == "error"
        assert reason in own.message
        assert not own.snapshot
    assert all(own is not None and not own.cause for own in found.values())
    assert not {row[2] for row in tables["placements"]} & set(LIES)
    assert not {parent for row in tables["candidates"] for parent in json.loads(row[7])} & set(LIES)
    report = write_reports(tmp_path / "run")
    assert report.failures == {"error": len(LIES)}
    assert 0 < report.occasion.wall_s <= report.occasion.busy_s


@pytest.mark.parametrize("value", [HONEST, Evaluation("leak", "sees the future")])
def test_what_can_be_true_is_believed(value: Evaluation) -> None:
    """Honest answers, and failures, which have no scores."""
    assert told(Outcome("0001/00", value, None, 1.0), BITS, measures=5) == value
    assert told(Outcome("verdict/0001/00/1", replace(value, measures=()), None, 1.0), BITS) == replace(
        value, measures=()
    )


def test_a_snapshot_of_another_candidate_is_no_answer(whole: Path) -> None:
    """Its metadata says whose it is."""
    journal = Journal(RunDirectory(whole).journal_file)
    own = journal.evaluation(journal.trials()[0].ref)
    journal.close()
    assert own is not None
    assert told(Outcome("0000/00@1#2", own, None, 1.0), BITS, measures=5) == own
    assert "of candidate 0000/00" in told(Outcome("0001/02", own, None, 1.0), BITS, measures=5).message


def test_an_answer_for_another_job_is_a_failure() -> None:
    """Engines give each job its own outcome, whatever a worker sends."""
    right, wrong = (Outcome(id, 3, None, 1.0) for id in ("a", "b"))
    assert answered(Job("a", "m:f"), right) == right
    found = answered(Job("a", "m:f"), wrong)
    assert (found.id, found.value) == ("a", None)
    assert found.failure is not None
    assert found.failure.message == "the worker answered for job 'b'"
