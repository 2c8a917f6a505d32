"""The trials whose training is in some weights, and what that training took. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

from evo.compiler.compute import used
from evo.dsl.budget import BudgetSpec
from evo.evolution.documents import document_of
from evo.evolution.journal import Journal
from evo.evolution.trial import Trial, WeightsRef


def ancestry(journal: Journal, refs: Iterable[WeightsRef]) -> dict[WeightsRef, Trial]:
    """The trials of some weights and all whose training is in them, both parents' sides, each once."""
    found: dict[WeightsRef, Trial] = {}
    waiting = list(refs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = journal.trial(name)
            waiting += found[name].start.sources
    return found


def charge_of(journal: Journal, refs: Iterable[WeightsRef], budget: BudgetSpec) -> float:
    """What the training behind some weights took, in the unit of a budget; what parents share counts once."""
    trials = ancestry(journal, refs).values()
    return sum(used(budget, document_of(trial.candidate.document), trial.steps) for trial in trials)
