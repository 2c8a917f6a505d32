"""The trials whose training is in some weights, and what that training took. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evo.compiler.compute import used
from evo.dsl.budget import BudgetSpec
from evo.evolution.documents import document_of
from evo.evolution.founders import Founder
from evo.evolution.journal import Journal
from evo.evolution.trial import FOUNDING, Trial, WeightsRef


def ancestry(journal: Journal, refs: Iterable[WeightsRef]) -> dict[WeightsRef, Trial]:
    """The trials of some weights and all whose training is in them, both parents' sides, each once."""
    found: dict[WeightsRef, Trial] = {}
    waiting = list(refs)
    while waiting:
        name = waiting.pop()
        if name not in found and name.rung != FOUNDING:
            found[name] = journal.trial(name)
            waiting += found[name].start.sources
    return found


def seed_of(journal: Journal, id: str) -> str:
    """The seed of a candidate's line of first parents."""
    while parents := journal.candidate(id).parents:
        id = parents[0]
    return id


def charge_of(
    journal: Journal, refs: Iterable[WeightsRef], budget: BudgetSpec, founders: Mapping[str, Founder]
) -> float:
    """What the training behind some weights took, in the unit of a budget; what parents share counts once.

    founders: by seed, of a run that was begun warm; what their training took is in that unit already.
    """
    trials = ancestry(journal, refs).values()
    own = sum(used(budget, document_of(trial.candidate.document), trial.steps) for trial in trials)
    begun = {source.candidate for trial in trials for source in trial.start.sources if source.rung == FOUNDING}
    seeds = sorted({seed_of(journal, id) for id in begun})
    return own + sum(founders[seed].charge for seed in seeds)
