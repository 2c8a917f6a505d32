"""A residual stream whose sums are gated."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.streams.gated.spec import GatedPlan
from evo.blocks.streams.module import Connection, Read


class Gated(Connection):
    """Gates where a sublayer is added, by the stream x and by what it gives, y (Parisotto et al. 1910.06764, 3.2)."""

    reset_x: nn.Parameter | None
    reset_y: nn.Parameter | None
    gate_x: nn.Parameter | None
    gate_y: nn.Parameter | None
    new_x: nn.Parameter | None
    new_y: nn.Parameter | None
    bias: nn.Parameter

    def __init__(self, plan: GatedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.form = plan.form

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        del flow
        return x_BTND[..., 0, :], x_BTND, None

    def written(self, kept_BTND: Tensor, gains_N: Tensor | None, y_BTD: Tensor, flow: Flow) -> Tensor:
        del gains_N
        return self._sum(kept_BTND[..., 0, :], y_BTD, flow)[..., None, :]

    def _sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> Tensor:
        if self.form == "gru":
            reset_BTD = self._maps(x_BTD, y_BTD, "reset", flow).sigmoid()
            change_BTD = (self._maps(x_BTD, y_BTD, "gate", flow) - self.bias).sigmoid()
            new_BTD = self._maps(reset_BTD * x_BTD, y_BTD, "new", flow).tanh()
            return x_BTD + change_BTD * (new_BTD - x_BTD)
        if self.form == "sigmoid_tanh":
            gate_BTD = (self._maps(x_BTD, y_BTD, "gate", flow) - self.bias).sigmoid()
            return x_BTD + gate_BTD * self._maps(x_BTD, y_BTD, "new", flow).tanh()
        keep_BTD = (self._maps(x_BTD, y_BTD, "gate", flow) + self.bias).sigmoid()
        if self.form == "input":
            return keep_BTD * x_BTD + y_BTD
        return (keep_BTD * x_BTD if self.form == "highway" else x_BTD) + (1.0 - keep_BTD) * y_BTD

    def _maps(self, x_BTD: Tensor, y_BTD: Tensor, name: str, flow: Flow) -> Tensor:
        """The sum of the maps of a name that there are, of x and of y."""
        of = ((f"{name}_x", x_BTD), (f"{name}_y", y_BTD))
        found = [flow.project(read, weight) for own, read in of if (weight := getattr(self, own)) is not None]
        return reduce(torch.add, found)
