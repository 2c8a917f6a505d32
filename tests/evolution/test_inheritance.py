"""What inherited weights were worth: the winner that has some, against a start from scratch at equal compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from searches import Quiet, seed_document, settings
from test_rungs import ASHA, made_up

from evo.compiler.compute import step_flops
from evo.dsl.document import parse
from evo.dsl.evolve import VerifySpec
from evo.evolution import run
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.search import Search
from evo.evolution.settings import Settings
from evo.evolution.trial import Evaluation, Trial
from evo.evolution.verdict import trainings, verdict
from evo.report.conclusion import conclusion

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def asked(inherits: bool) -> Settings:
    """A search in which children may go on from their parents."""
    return settings(
        seed_document(steps=90),
        fidelity=ASHA,
        generations=4,
        population=6,
        inherit=inherits,
        verify=VerifySpec(seeds=2),
    )


def heirs_win(trial: Trial) -> Evaluation:
    """Who inherits is better by far."""
    found = made_up(trial)
    gain = 1.0 if trial.start.sources else 0.0
    return replace(found, scores={**found.scores, "bits_per_byte": found.scores["bits_per_byte"] - gain})


@pytest.mark.parametrize("inherits", [True, False])
def test_an_heir_is_held_against_scratch(inherits: bool) -> None:
    """A winner that inherits is trained twice more, on with its weights and afresh for the compute of both, ancestors
    included; the difference stands in the verdict. Where nothing is inherited nothing is added."""
    own = asked(inherits)
    search = Search(own, Journal(":memory:"))
    while trials := search.ask():
        search.tell({trial: heirs_win(trial) for trial in trials})
    rows, amount = trainings(own, search.journal), own.train_budget.amount
    arms = {arm: [row for row in rows if row.arm == arm] for arm in ("inherited", "scratch")}
    for row in rows:
        score = 2.0 + row.seed / 1000 - 0.5 * (row.arm == "inherited")
        search.journal.set_fact(row.key, {"score": score, "cause": ""})
    found = verdict(own, search.journal)
    assert found is not None
    told = conclusion(found, own.primary, own.evolve.verify.seeds)
    said = [line for line in told.sentences if line.startswith("Inherited weights")]
    if not inherits:
        assert (arms, found.inheritance, said) == ({"inherited": [], "scratch": []}, None, [])
        return
    assert [len(own) for own in arms.values()] == [2, 2]
    for heir, fresh in zip(*arms.values(), strict=True):
        a_step = step_flops(parse(heir.document).document)
        assert heir.candidate == fresh.candidate == found.winner
        assert heir.start.sources
        assert not fresh.start.sources
        assert abs(heir.steps * a_step + heir.start.charge - fresh.steps * a_step) <= 1.01 * a_step <= 0.1 * amount
    assert found.inheritance is not None
    assert found.inheritance.difference == pytest.approx(-0.5)
    assert len(said) == 1
    assert said[0].endswith(f"ancestors' included: -0.5000 {PLUS_MINUS} 0.0030 (better).")


@pytest.mark.slow
def test_a_run_that_inherits_tells_its_gain(tmp_path: Path) -> None:
    """Real trainings, real weights: the winner goes on from its parent's, and the report has the difference."""
    own = replace(asked(True), seeds=(seed_document(steps=24),))
    run.start(tmp_path / "run", own, Quiet(), evaluate="test_inheritance:favouring_heirs")
    journal = Journal(RunDirectory(tmp_path / "run").journal_file)
    found, rows = verdict(own, journal), trainings(own, journal)
    scores = {row.key: journal.fact(row.key)["score"] for row in rows}
    journal.close()
    assert found is not None
    assert found.inheritance is not None
    means = [fmean(scores[row.key] for row in rows if row.arm == arm) for arm in ("inherited", "scratch")]
    assert found.inheritance.difference == pytest.approx(means[0] - means[1])


def favouring_heirs(job):
    """An evaluation whose search scores are better where weights are inherited, so that an heir wins."""
    from evo.evolution.evaluate import evaluate

    found = evaluate(job)
    gain = 2.0 if job.parents and not job.is_verdict and not found.cause else 0.0
    return replace(found, scores={**found.scores, "bits_per_byte": found.scores.get("bits_per_byte", 9.0) - gain})
