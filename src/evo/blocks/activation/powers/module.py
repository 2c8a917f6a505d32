"""Activations with learned coefficients of powers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.activation.module import Activation
from evo.blocks.activation.powers.spec import PolynomialPlan
from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow

EPS = 1e-6
"""Added to the mean square of a power."""


class Polynomial(Activation):
    """a_0 + sum a_i relu(x)^i, or of x^i / rms(x^i) (Zhuo et al. 2411.03884, eqs. 2 and 3)."""

    powers: nn.Parameter
    offset: nn.Parameter

    def __init__(self, plan: PolynomialPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.is_normed = plan.of == "norm"

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        x = x_BTD.to(compute_dtype(x_BTD))
        base = x if self.is_normed else F.relu(x)
        total, power = self.offset.expand_as(x), torch.ones_like(x)
        for factor in self.powers:
            power = power * base
            total = total + factor * (F.rms_norm(power, power.shape[-1:], None, EPS) if self.is_normed else power)
        return total.to(x_BTD.dtype)


class Rational(Activation):
    """P(x) / (1 + |Q(x)|), by Horner's rule (Molina et al. 1907.06732, eq. 4)."""

    above: nn.Parameter
    offset: nn.Parameter
    below: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        x = x_BTD.to(compute_dtype(x_BTD))
        quotient = (self.offset + _powers(x, self.above)) / (1.0 + _powers(x, self.below).abs())
        return quotient.to(x_BTD.dtype)


def _powers(x: Tensor, factors_N: Tensor) -> Tensor:
    """sum over i of factors_i x^(i + 1)."""
    total = torch.zeros_like(x)
    for factor in factors_N.flip(0):
        total = (total + factor) * x
    return total
