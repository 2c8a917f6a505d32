"""A linear map."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.linear.spec import LinearPlan
from evo.kernels.fused import ACTS


class Linear(Block):
    """act(norm(o(inner(x)))), perhaps with x added."""

    inner: nn.Parameter | None
    o: nn.Parameter
    o_bias: nn.Parameter | None

    def __init__(self, plan: LinearPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.residual, self.act = plan.residual, ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        h_BTX = x_BTD if self.inner is None else flow.project(x_BTD, self.inner)
        y_BTD = flow.project(h_BTX, self.o, self.o_bias)
        norm = self._modules.get("norm")
        if isinstance(norm, Norm):
            y_BTD = norm(y_BTD, flow)
        y_BTD = self.act(y_BTD)
        return x_BTD + y_BTD if self.residual else y_BTD
