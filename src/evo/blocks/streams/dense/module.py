"""Sums of what earlier layers gave."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.streams.dense.spec import DensePlan
from evo.blocks.streams.module import Beginning, End, LayerConnection


class _Reading(Block):
    """Reads states, (B, T, N, D), the latest last."""

    shares: nn.Parameter
    down: nn.Parameter | None
    up: nn.Parameter | None

    def __init__(self, plan: DensePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.every, self.eps = plan.every, plan.eps

    def _sum(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        """sum_j w_j X_j of the states that are read, w = a + U gelu(V N(X_last))."""
        read_BTND = x_BTND[..., (x_BTND.shape[-2] - 1) % self.every :: self.every, :]
        shares_N: Tensor = self.shares.to(compute_dtype(x_BTND))
        if self.down is not None and self.up is not None:
            last_BTD = x_BTND[..., -1, :]
            hidden_BTR = F.gelu(flow.project(F.rms_norm(last_BTD, last_BTD.shape[-1:], None, self.eps), self.down))
            shares_N = shares_N + flow.project(hidden_BTR, self.up)
        return (shares_N[..., None].to(x_BTND.dtype) * read_BTND).sum(-2)


class Dense(_Reading, LayerConnection):
    """A layer reads the sum, and what it gives is one state more."""

    def predicted(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        return torch.cat((self._sum(x_BTND, flow)[..., None, :], x_BTND), dim=-2)

    def corrected(self, predicted_BTND: Tensor, y_BTD: Tensor, flow: Flow) -> Tensor:
        del flow
        return torch.cat((predicted_BTND[..., 1:, :], y_BTD[..., None, :]), dim=-2)


class First(Beginning):
    """One state."""

    def begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        del flow
        return x_BTD[..., None, :]


class DenseEnd(_Reading, End):
    """The sum of the states of all layers."""

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        return self._sum(x_BTND, flow)
