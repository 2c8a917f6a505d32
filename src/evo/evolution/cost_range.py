"""What a child may cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evo.compiler.plan import Plan
from evo.dsl.evolve import EvolveSpec


@dataclass(frozen=True)
class CostRange:
    """Forward FLOPs per token, from the least to the most."""

    least: float
    most: float

    def holds(self, plan: Plan) -> bool:
        """Whether a plan's cost lies in it."""
        return self.least <= plan.flops_per_token <= self.most


def cost_range(evolve: EvolveSpec, seeds: Iterable[Plan]) -> CostRange:
    """That of the children of a search with such seeds, one at least."""
    costs = [plan.flops_per_token for plan in seeds]
    return CostRange(evolve.shrink * min(costs), evolve.growth * max(costs))
