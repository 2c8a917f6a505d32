"""Activations that have settings or weights of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.activation.spec import ClippedPlan, SoftCappedPlan, TopGaussPlan, XieluPlan
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.kernels.fused import ACTS, soft_capped


class Activation(Block):
    """A function of each channel; with a gate, of the gate and what it gates."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """act(x), (..., F) -> (..., F)."""
        raise NotImplementedError

    def gated(self, gate: Tensor, up: Tensor, flow: Flow) -> Tensor:
        """act(gate) * up, (..., F) each."""
        return self(gate, flow) * up


class Clipped(Activation):
    """g sigmoid(slope g) (u + shift) of clipped g and u (gpt-oss)."""

    def __init__(self, plan: ClippedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.limit, self.slope, self.shift = plan.limit, plan.slope, plan.shift

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        x = x_BTD.clamp(max=self.limit)
        return x * torch.sigmoid(self.slope * x) * (1.0 + self.shift)

    def gated(self, gate: Tensor, up: Tensor, flow: Flow) -> Tensor:
        gate = gate.clamp(max=self.limit)
        return gate * torch.sigmoid(self.slope * gate) * (up.clamp(-self.limit, self.limit) + self.shift)


class SoftCapped(Activation):
    """cap_g tanh(g / cap_g) sigmoid(g) * cap_u tanh(u / cap_u)."""

    def __init__(self, plan: SoftCappedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.gate_cap, self.up_cap = plan.gate, plan.up

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        return soft_capped(soft_capped(x_BTD, self.gate_cap) * torch.sigmoid(x_BTD), self.up_cap)

    def gated(self, gate: Tensor, up: Tensor, flow: Flow) -> Tensor:
        return soft_capped(gate, self.gate_cap) * torch.sigmoid(gate) * soft_capped(up, self.up_cap)


class TopGauss(Activation):
    """act(relu(x - mean - z std)) over the channels (Gemma 3n)."""

    def __init__(self, plan: TopGaussPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.deviations, self.act = plan.deviations, ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        cut = x_BTD.mean(-1, keepdim=True) + self.deviations * x_BTD.std(-1, keepdim=True, unbiased=False)
        return self.act(F.relu(x_BTD - cut))


class Xielu(Activation):
    """p x² + b x where x > 0, else n (expm1(min(x, -1e-6)) - x) + b x; p = softplus, n = b + softplus (Apertus)."""

    positive: nn.Parameter
    negative: nn.Parameter

    def __init__(self, plan: XieluPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.slope = plan.slope

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        up, down = F.softplus(self.positive), self.slope + F.softplus(self.negative)
        below = down * (torch.expm1(x_BTD.clamp(max=-1e-6)) - x_BTD)
        return torch.where(x_BTD > 0, up * x_BTD * x_BTD, below) + self.slope * x_BTD
