"""Trials of one plan trained in one stack: the scores that each has alone, and no failure that others bring about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import searches
from parents import document, stage

from evo.dsl.canonical import to_yaml
from evo.dsl.evolve import VerifySpec
from evo.engines.inline import InlineEngine
from evo.engines.jobs import Failure, Job, Outcome, find_function, run_job
from evo.evolution import run, together
from evo.evolution.evaluate import EVALUATE, TrialJob, evaluate
from evo.evolution.journal import Journal
from evo.evolution.together import EVALUATE_TOGETHER, evaluate_together, outcomes, stackable
from evo.evolution.trial import Evaluation
from evo.evolution.verdict import FACT, Training
from evo.training.loop import Trainer
from evo.training.stacked import StackError


def trials(**train: object) -> tuple[TrialJob, ...]:
    """A candidate with two seeds, as a verdict trains it."""
    made = document(stage("body", repeat=2), width=16, train={"steps": 4, **train})
    job = TrialJob(to_yaml(made), ".", budget=searches.LITTLE, tolerance=None, is_verdict=True)
    return tuple(replace(job, repeat=seed) for seed in range(2))


def test_each_has_the_scores_that_it_has_alone() -> None:
    """Within what float32 leaves of them; the same stack gives the same bytes."""
    jobs = trials()
    stacked = evaluate_together(jobs)
    assert stacked == evaluate_together(jobs)
    assert stacked[0].scores != stacked[1].scores
    for found, job in zip(stacked, jobs, strict=True):
        alone = evaluate(job)
        assert found.cause == alone.cause == ""
        assert found.scores == pytest.approx(alone.scores, rel=1e-3)
        assert found.measures == pytest.approx(alone.measures, rel=1e-2)
        assert [step for step, _ in found.curve] == [step for step, _ in alone.curve]


def test_what_cannot_be_stacked_is_evaluated_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning, as if nobody had tried."""

    def refused(trainers: Sequence[Trainer]) -> None:
        raise StackError(f"{len(trainers)} trainings cannot be stacked")

    monkeypatch.setattr(together, "Stack", refused)
    monkeypatch.setattr(together, "evaluate", lambda job: Evaluation(f"alone {job.repeat}"))
    assert [found.cause for found in evaluate_together(trials())] == ["alone 0", "alone 1"]


def test_expected_failures_have_causes() -> None:
    """Time is that of all; a leak is found before anything is stacked."""
    slow = evaluate_together(tuple(replace(job, max_seconds=0.0) for job in trials()))
    assert [(found.cause, found.message) for found in slow] == [("timeout", "training took more than 0 s")] * 2
    leaky = [replace(job, document=job.document.replace("heads: 2", "heads: 2, causal: false")) for job in trials()]
    assert [found.cause for found in evaluate_together((*leaky, trials()[0]))] == ["leak", "leak", ""]


def test_only_small_steps_are_stacked_on_a_cpu() -> None:
    """By candidate and start, the seeds in their order."""
    rows = [Training(id, trials()[0].document, 4, seed) for seed in range(2) for id in ("a", "b")]
    again = [Training("a", trials()[0].document, 4, seed, arm="scratch") for seed in range(2)]
    assert stackable([*rows, *again], "cpu") == [[rows[0], rows[2]], [rows[1], rows[3]], again]
    large = [replace(row, document=row.document.replace("width: 16", "width: 512")) for row in rows]
    assert stackable(large, "cpu") == [[row] for row in large]
    assert stackable(rows, "cuda") == [[row] for row in rows]


class Crashing(InlineEngine):
    """An engine whose workers do not survive a stack."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

    def map(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """As any engine."""
        for job in jobs:
            self.ran.append((job.id, job.function))
            if job.function == EVALUATE_TOGETHER:
                yield Outcome(job.id, None, Failure("memory", "killed"), 1.0)
            else:
                yield run_job(job, find_function(job.function))


def test_a_stack_that_fails_as_a_whole_is_tried_one_by_one() -> None:
    """So a verdict does not lose a training because another one was beside it."""
    one, two = trials()
    engine = Crashing()
    found = list(outcomes([["one", "two"]], {"one": one, "two": two}, engine, EVALUATE))
    assert [[(own.id, own.value.cause) for own in group] for group in found] == [[("one", "")], [("two", "")]]
    assert engine.ran == [("one", EVALUATE_TOGETHER), ("one", EVALUATE), ("two", EVALUATE)]


class Stop(Exception):
    """Ends a run from outside."""


@pytest.mark.slow
def test_a_verdict_cut_between_its_stacks_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainings of a stack are recorded together, so what is missing is whole stacks."""
    asked = searches.settings(verify=VerifySpec(seeds=2), generations=1)
    run.start(tmp_path / "whole", asked, searches.Quiet())
    plain, recorded = Journal.set_facts, list[int]()

    def cut(self: Journal, facts: Mapping[str, object]) -> None:
        if any(key.startswith(FACT) for key in facts):
            if recorded:
                raise Stop
            recorded.append(len(facts))
        plain(self, facts)

    monkeypatch.setattr(Journal, "set_facts", cut)
    with pytest.raises(Stop):
        run.start(tmp_path / "cut", asked, searches.Quiet())
    monkeypatch.undo()
    assert recorded == [2]
    run.resume(tmp_path / "cut", searches.Quiet())
    assert searches.dump(tmp_path / "cut") == searches.dump(tmp_path / "whole")
