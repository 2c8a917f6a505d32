"""What is read of the past a generation at a time is what all rows together say."""

from __future__ import annotations

import math

from searches import settings
from test_noise import lucky

from evo.dsl.rungs import AshaFidelity
from evo.dsl.task import Score
from evo.evolution.journal import Journal
from evo.evolution.search import Search
from evo.evolution.trial import Evaluation, Trial
from evo.tasks.bytes.spec import BytesSpec


def evaluated(trial: Trial) -> Evaluation:
    """Luck, and for a fourth of all children a failure."""
    fails = trial.candidate.generation > 0 and trial.candidate.hash[0] in "0123"
    return Evaluation("diverged", "made up") if fails else lucky(trial)


def plain_costs(journal: Journal, primary: Score) -> list[dict[str, float]]:
    """The means of costs, by rung and candidate, of all trials in their order."""
    found: dict[int, dict[str, list[float]]] = {}
    for trial in journal.trials():
        evaluation = journal.evaluation(trial.ref)
        if evaluation is not None:
            cost = math.inf if evaluation.cause else primary.cost(evaluation.scores[primary.name])
            found.setdefault(trial.rung, {}).setdefault(trial.candidate.id, []).append(cost)
    means = {rung: {id: sum(costs) / len(costs) for id, costs in own.items()} for rung, own in found.items()}
    return [means.get(rung, {}) for rung in range(max(found, default=-1) + 1)]


def test_a_generation_at_a_time() -> None:
    """Costs, in their order, gains, descent and children are those of all rows, whenever they are asked for."""
    own = settings(generations=4, population=6, repeats=3, cells=4, fidelity=AshaFidelity(eta=2, rungs=2))
    search, primary = Search(own, Journal(":memory:")), BytesSpec.primary
    journal = search.journal
    while trials := search.ask():
        for trial in trials:
            search.tell({trial: evaluated(trial)})
            assert [[*rung.items()] for rung in journal.costs(primary)] == [
                [*rung.items()] for rung in plain_costs(journal, primary)
            ]
        candidates = journal.candidates()
        assert list(journal.descent()) == [(c.id, c.parents, c.operators) for c in candidates]
        for parent in candidates:
            assert list(journal.past.children(parent.id)) == [c.id for c in candidates if parent.id in c.parents]
        placed = [p for p in journal.placements("result") if p.status in ("new", "improved")]
        assert journal.past.gains() == {p.trial.candidate: p.value for p in placed}
    assert any(map(math.isinf, journal.costs(primary)[0].values()))
    assert len(journal.costs(primary)) == 2
