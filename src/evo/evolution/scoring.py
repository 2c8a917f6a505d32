"""What the scores of a run mean: the reference they are held against, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.evolve import FitnessSpec
from evo.dsl.ranking import Ranking
from evo.dsl.task import Score
from evo.evolution.documents import plan_of
from evo.evolution.fitness import Reference, Terms, cost_of, fitness
from evo.evolution.trial import Evaluation, Result, Trial


class Scoring:
    """Objectives against the best seed of each rung, known once the seeds are evaluated; and the best primary score.

    What is compared has had equal compute: a score is held against the best seed's at the same rung.
    """

    def __init__(self, primary: Score, weights: FitnessSpec) -> None:
        self.primary, self.weights = primary, weights
        self.references: dict[int, Reference] = {}
        self.known: dict[str, float] = {}
        self.costs: dict[int, Ranking] = {}

    def set_references(self, seeds: list[Result]) -> None:
        """Take the best seed of each rung as the reference there, the first among equals."""
        for rung in {scored.trial.rung for scored in seeds}:
            found = [scored for scored in seeds if scored.trial.rung == rung]
            best = min(found, key=lambda scored: self.primary.cost(self._value(scored)))
            cost = cost_of(plan_of(best.trial.candidate.document))
            self.references[rung] = Reference(self.primary, self._value(best), cost)

    def terms(self, scored: Result) -> Terms:
        """The objective of a trial."""
        plan = plan_of(scored.trial.candidate.document)
        return fitness(scored.evaluation.scores, plan, self.reference(scored.trial.rung), self.weights)

    def reference(self, rung: int) -> Reference:
        """What scores of a rung are held against: a lower rung's seed where no seed came as far."""
        return self.references[max((own for own in self.references if own <= rung), default=min(self.references))]

    def cost(self, scored: Result) -> float:
        """The primary score with its sign such that less is better."""
        return self.primary.cost(self._value(scored))

    def note(self, scored: Result) -> None:
        """Remember a candidate's primary score, in place of an earlier one."""
        id, value = scored.trial.candidate.id, self._value(scored)
        self.known[id] = value
        self.costs.setdefault(scored.trial.rung, Ranking())[id] = self.primary.cost(value)

    @property
    def best(self) -> tuple[float, str] | None:
        """The best primary score of the highest rung that any candidate reached, and whose it is; the eldest's among
        equals."""
        if not self.costs:
            return None
        (id,) = self.costs[max(self.costs)].best(1)
        return self.known[id], id

    def _value(self, scored: Result) -> float:
        return scored.evaluation.scores[self.primary.name]


def no_seed(failures: Mapping[Trial, Evaluation]) -> DiagnosticError:
    """The error of a run none of whose seeds gave a score, with the causes."""
    causes = "; ".join(f"{trial.id}: {found.cause}: {found.message}" for trial, found in failures.items())
    return DiagnosticError([Diagnostic("EVO620", f"no seed could be evaluated ({causes})")])
