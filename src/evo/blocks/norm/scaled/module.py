"""A norm whose output is multiplied by a constant."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.norm.scaled.spec import ScaledNormPlan


class ScaledNorm(Norm):
    """factor * norm(x)."""

    norm: Norm

    def __init__(self, plan: ScaledNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.factor = plan.factor

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.norm(x_BTD, flow) * self.factor

    def after_sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """x + y and its norm, each (..., D)."""
        total_BTD, normed_BTD = self.norm.after_sum(x_BTD, y_BTD, flow)
        return total_BTD, normed_BTD * self.factor
