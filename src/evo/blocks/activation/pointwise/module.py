"""Further activations of one value, in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.activation.module import Activation
from evo.blocks.activation.pointwise.spec import LeakyReluPlan, PointwisePlan
from evo.blocks.base import Block
from evo.blocks.flow import Flow

MEAN, DEVIATION = 0.707107, 0.282095
"""Of the normal law whose distribution function `laplace` is (2209.10655, eq. 19)."""


def laplace(x: Tensor) -> Tensor:
    """The distribution function of a normal law."""
    return 0.5 * (1.0 + torch.erf((x - MEAN) / (DEVIATION * 2**0.5)))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": F.elu,
    "selu": F.selu,
    "mish": F.mish,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "relu6": F.relu6,
    "gelu_10": lambda x: F.gelu(x).clamp(-10.0, 10.0),
    "soft_sign": F.softsign,
    "sqrt_softplus": lambda x: F.softplus(x).sqrt(),
    "sine": torch.sin,
    "laplace": laplace,
}


class Pointwise(Activation):
    """A function by its name."""

    def __init__(self, plan: PointwisePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.function = FUNCTIONS[plan.of]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        return self.function(x_BTD)


class LeakyRelu(Activation):
    """x, or slope x below 0."""

    below: nn.Parameter | None

    def __init__(self, plan: LeakyReluPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.slope = plan.slope

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        slope = self.slope if self.below is None else self.below.to(x_BTD.dtype)
        return torch.where(x_BTD > 0, x_BTD, slope * x_BTD)


class LearnedSilu(Activation):
    """x sigmoid(b x)."""

    slope: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        return x_BTD * torch.sigmoid(self.slope.to(x_BTD.dtype) * x_BTD)
