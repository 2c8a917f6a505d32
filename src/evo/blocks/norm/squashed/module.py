"""A bounded function of each channel by itself in a norm's place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.norm.squashed.spec import SquashedNormPlan

FUNCTIONS = {"tanh": torch.tanh, "erf": torch.erf}


class SquashedNorm(Norm):
    """f(slope x + shift) * gain + bias (DyT, Zhu et al. 2503.10622; Derf, Chen et al. 2512.10938)."""

    slope: nn.Parameter
    gain: nn.Parameter
    shift: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, plan: SquashedNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.function = FUNCTIONS[plan.by]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D), or (..., H, K) over heads, in its shape and dtype."""
        inner = x_BTD.to(compute_dtype(x_BTD)) * self.slope
        y = self.function(inner if self.shift is None else inner + self.shift) * self.gain
        return (y if self.bias is None else y + self.bias).to(x_BTD.dtype)
