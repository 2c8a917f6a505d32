"""The objective: one number in [0, 1], higher is better, the weighted mean of three terms that lie in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evo.compiler.plan import Plan
from evo.dsl.evolve import FitnessSpec
from evo.dsl.task import Score

SHARPNESS = 8
"""With it, being 2 % better than the reference in the score is worth about as much as halving the cost."""


WORST_RATIO = 1e30
"""Beyond it every score counts as equally bad; its eighth power is still a number."""


@dataclass(frozen=True)
class Reference:
    """What candidates are compared with: the best seed's primary score and its cost by the plan."""

    score: Score
    value: float
    cost: float


@dataclass(frozen=True)
class Terms:
    """The objective and the terms it is made of."""

    task: float
    efficiency: float
    gradient: float
    objective: float


def cost_of(plan: Plan) -> float:
    """One number for a plan's cost, so that runs repeat: the geometric mean of forward FLOPs per token and held values.

    Caches count by their share of what is held: a kilobyte more or less in a model of megabytes decides nothing.
    """
    return math.sqrt(plan.flops_per_token * held_values(plan))


def held_values(plan: Plan) -> int:
    """Values in memory while one sequence is decoded: parameters, and caches and states after a full context."""
    return plan.parameters + plan.cache_values(plan.context)


def fitness(scores: Mapping[str, float], plan: Plan, reference: Reference, weights: FitnessSpec) -> Terms:
    """The terms of a candidate's objective.

    task: 1 / (1 + ratio^8), where the ratio is score / reference score if lower is better and its inverse if higher is,
    so 1/2 at the reference. efficiency: 1 / (1 + cost / reference cost), 1/2 at the reference. gradient: the score
    gradient_evenness. objective: their mean weighted by the settings.
    """
    value = scores[reference.score.name]
    worse, better = (value, reference.value) if reference.score.lower_is_better else (reference.value, value)
    task = 1 / (1 + _ratio(worse, better) ** SHARPNESS)
    efficiency = 1 / (1 + cost_of(plan) / reference.cost)
    gradient = scores["gradient_evenness"]
    total = weights.task + weights.efficiency + weights.gradient
    summed = weights.task * task + weights.efficiency * efficiency + weights.gradient * gradient
    return Terms(task, efficiency, gradient, summed / total if total else 0.0)


def _ratio(above: float, below: float) -> float:
    """above / below for numbers that are not negative: 1 where both are 0, and never more than the worst ratio."""
    if math.isnan(above) or math.isnan(below):
        return math.nan
    if below == 0.0:
        return 1.0 if above == 0.0 else WORST_RATIO
    return min(above / below, WORST_RATIO)


@dataclass(frozen=True)
class Bar:
    """What an objective has to be above for its weights to be kept. Without a reference everything is."""

    objective: float = -math.inf
    reference: Reference | None = None
    weights: FitnessSpec | None = None

    def is_cleared(self, scores: Mapping[str, float], plan: Plan) -> bool:
        """Whether scores of a network of that plan are good enough."""
        if self.reference is None or self.weights is None:
            return True
        return fitness(scores, plan, self.reference, self.weights).objective > self.objective
