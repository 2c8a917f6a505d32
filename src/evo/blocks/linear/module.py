"""A linear map."""

from __future__ import annotations

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow


class Linear(Block):
    """o(inner(x))."""

    inner: nn.Parameter | None
    o: nn.Parameter
    o_bias: nn.Parameter | None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        if self.inner is not None:
            x_BTD = flow.project(x_BTD, self.inner)
        return flow.project(x_BTD, self.o, self.o_bias)
