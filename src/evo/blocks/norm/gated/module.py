"""A norm whose output is gated by itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.norm.gated.spec import GatedNormPlan
from evo.kernels.fused import ACTS


class GatedNorm(Norm):
    """y * sigmoid(W_up act(W_down y)), y = norm(x) (A.X K2)."""

    norm: Norm
    down: nn.Parameter
    up: nn.Parameter

    def __init__(self, plan: GatedNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.act = ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        return self._gated(self.norm(x_BTD, flow), flow)

    def after_sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """x + y and its norm, each (..., D)."""
        total_BTD, normed_BTD = self.norm.after_sum(x_BTD, y_BTD, flow)
        return total_BTD, self._gated(normed_BTD, flow)

    def _gated(self, y_BTD: Tensor, flow: Flow) -> Tensor:
        inner = self.act(flow.project(y_BTD, self.down))
        return y_BTD * flow.project(inner, self.up).sigmoid()
