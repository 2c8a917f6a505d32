"""The objective: one number in [0, 1], higher is better, the weighted mean of three terms that lie in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

from evo.compiler.plan import Plan
from evo.dsl.evolve import FitnessSpec

UNIFORM_BITS = 8.0
SHARPNESS = 8
"""With it, being 2 % better than the reference in bits is worth about as much as halving the cost."""


WORST_RATIO = 1e30
"""Beyond it every score counts as equally bad; its eighth power is still a number."""


@dataclass(frozen=True)
class Reference:
    """What candidates are compared with: the best seed's held-out bits per byte and its cost by the plan."""

    bits_per_byte: float
    cost: float


@dataclass(frozen=True)
class Terms:
    """The objective and the terms it is made of."""

    task: float
    efficiency: float
    gradient: float
    objective: float


def cost_of(plan: Plan) -> float:
    """One number for a plan's cost, so that runs repeat: the geometric mean of forward FLOPs per token, parameters, and
    values cached after a full context."""
    cache = max(plan.cache_values(plan.context), 1)
    return (plan.flops_per_token * plan.parameters * cache) ** (1 / 3)


def fitness(
    bits_per_byte: float, gradient_relevance: float, plan: Plan, reference: Reference, weights: FitnessSpec
) -> Terms:
    """The terms of a candidate's objective.

    task: 1 / (1 + (bits / reference bits)^8), 1/2 at the reference. efficiency: 1 / (1 + cost / reference cost), 1/2 at
    the reference. gradient: `Behaviour.gradient_relevance`. objective: their mean weighted by the settings.
    """
    ratio = min(bits_per_byte / reference.bits_per_byte, WORST_RATIO)
    task = 1 / (1 + ratio**SHARPNESS)
    efficiency = 1 / (1 + cost_of(plan) / reference.cost)
    total = weights.task + weights.efficiency + weights.gradient
    summed = weights.task * task + weights.efficiency * efficiency + weights.gradient * gradient_relevance
    return Terms(task, efficiency, gradient_relevance, summed / total if total else 0.0)
