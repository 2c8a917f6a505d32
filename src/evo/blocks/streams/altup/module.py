"""Predictions and corrections of streams, and what stands at their ends."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.streams.altup.spec import GatheredPlan, SpreadPlan
from evo.blocks.streams.module import Beginning, End, LayerConnection, mixed, normed
from evo.dsl.plan import BlockPlan

LEAST = 1e-5
"""The least mean square that a map's output is divided by."""


class AltUp(LayerConnection):
    """P_j = X_j + sum_i a_ji X_i and X_j <- P_j + (1 + b_j) (y - P_0), a and b by what X_0 and y hold."""

    router: nn.Parameter
    predict: nn.Parameter
    correct: nn.Parameter
    aside_gain: nn.Parameter | None

    def predicted(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        shares_BTK = flow.project(self._choice(x_BTND[..., 0, :], flow), self.predict)
        shares_BTMN = shares_BTK.unflatten(-1, (x_BTND.shape[-2], -1))
        return x_BTND + mixed(x_BTND, shares_BTMN.transpose(-1, -2))

    def corrected(self, predicted_BTND: Tensor, y_BTD: Tensor, flow: Flow) -> Tensor:
        gains_BTN = 1.0 + flow.project(self._choice(y_BTD, flow), self.correct)
        off_BTD = y_BTD - predicted_BTND[..., 0, :]
        return predicted_BTND + gains_BTN[..., None] * off_BTD[..., None, :]

    def read_aside(self, x_BTND: Tensor) -> Tensor:
        first_BTD = x_BTND[..., 0, :]
        return first_BTD if self.aside_gain is None else first_BTD * self.aside_gain

    def written_aside(self, x_BTND: Tensor, y_BTD: Tensor) -> Tensor:
        others_BTMD = x_BTND[..., 1:, :] + y_BTD[..., None, :]
        return torch.cat((x_BTND[..., :1, :], others_BTMD), dim=-2)

    def _choice(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What a token chooses its shares by, (B, T, N) in [-1, 1]."""
        return torch.tanh(flow.project(normed(self, x_BTD, flow) / x_BTD.shape[-1], self.router))


class Spread(Beginning):
    """x itself, and maps of it that are as large."""

    def __init__(self, plan: SpreadPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.maps = tuple(weight.name for weight in plan.weights)

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The maps are named by the plan."""
        return frozenset(weight.name for weight in plan.weights)

    def begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        others = (as_large(flow.project(x_BTD, getattr(self, name)), x_BTD) for name in self.maps)
        return torch.stack([x_BTD, *others], dim=-2)


class Gathered(End):
    """The mean of the first stream and of maps of the others that are as large as it is."""

    def __init__(self, plan: GatheredPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.maps = tuple(weight.name for weight in plan.weights)

    @classmethod
    def weight_names(cls, plan: BlockPlan) -> frozenset[str]:
        """The maps are named by the plan."""
        return frozenset(weight.name for weight in plan.weights)

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        first_BTD, *others = x_BTND.unbind(-2)
        mapped = (flow.project(x_BTD, getattr(self, name)) for x_BTD, name in zip(others, self.maps, strict=True))
        return torch.stack([first_BTD, *(as_large(y_BTD, first_BTD) for y_BTD in mapped)]).mean(0)


def as_large(y_BTD: Tensor, like_BTD: Tensor) -> Tensor:
    """y with the root mean square of another vector."""
    size_BT1, own_BT1 = (x.square().mean(-1, keepdim=True) for x in (like_BTD, y_BTD))
    return y_BTD * size_BT1.sqrt() / own_BT1.clamp(min=LEAST).sqrt()
