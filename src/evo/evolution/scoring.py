"""What the scores of a run mean: the reference they are held against, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.dsl.evolve import FitnessSpec
from evo.dsl.task import Score
from evo.evolution.fitness import Reference, Terms, cost_of, fitness
from evo.evolution.trial import Evaluation, Result, Trial


class Scoring:
    """Objectives against the best seed, which is known once the seeds are evaluated; and the best primary score."""

    def __init__(self, primary: Score, weights: FitnessSpec) -> None:
        self.primary, self.weights = primary, weights
        self.reference: Reference | None = None
        self.best: tuple[float, str] | None = None

    def set_reference(self, seeds: list[Result]) -> None:
        """Take the best seed as the reference, the first among equals."""
        best = min(seeds, key=lambda scored: self.primary.cost(self._value(scored)))
        self.reference = Reference(self.primary, self._value(best), cost_of(plan_of(best.trial.candidate.document)))

    def terms(self, scored: Result) -> Terms:
        """The objective of a trial."""
        assert self.reference is not None, "the seeds come first"
        plan = plan_of(scored.trial.candidate.document)
        return fitness(scored.evaluation.scores, plan, self.reference, self.weights)

    def note(self, scored: Result) -> None:
        """Remember the best primary score; a tie keeps the elder."""
        value = self._value(scored)
        if self.best is None or self.primary.cost(value) < self.primary.cost(self.best[0]):
            self.best = value, scored.trial.candidate.id

    def _value(self, scored: Result) -> float:
        return scored.evaluation.scores[self.primary.name]


def plan_of(document: str) -> Plan:
    """The plan of a canonical document."""
    return resolve(parse(document).document.organism)


def no_seed(failures: Mapping[Trial, Evaluation]) -> DiagnosticError:
    """The error of a run none of whose seeds gave a score, with the causes."""
    causes = "; ".join(f"{trial.id}: {found.cause}: {found.message}" for trial, found in failures.items())
    return DiagnosticError([Diagnostic("EVO620", f"no seed could be evaluated ({causes})")])
