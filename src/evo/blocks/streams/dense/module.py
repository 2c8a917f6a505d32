"""Sums of what earlier layers gave."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.streams.dense.spec import DensePlan
from evo.blocks.streams.module import Beginning, End, LayerConnection
from evo.dsl.spec import KV, VALUES

SIGNALS = {"k": KV, "v": VALUES}
"""What keys and values read their sums as."""


class _Reading(Block):
    """Reads states, (B, T, N, D), the latest last."""

    shares: nn.Parameter
    q_shares: nn.Parameter | None
    k_shares: nn.Parameter | None
    v_shares: nn.Parameter | None
    down: nn.Parameter | None
    up: nn.Parameter | None

    def __init__(self, plan: DensePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.every, self.eps, self.apart, self.gives = plan.every, plan.eps, plan.apart, plan.gives

    def _sums(self, x_BTND: Tensor, flow: Flow) -> list[Tensor]:
        """sum_j w_j X_j of the states that are read, each w = a + U gelu(V N(X_last)): (B, T, D) for each sum."""
        read_BTND = x_BTND[..., (x_BTND.shape[-2] - 1) % self.every :: self.every, :]
        named = [self.shares, *(getattr(self, f"{name}_shares") for name in self.apart)]
        shares = [shares_N.to(compute_dtype(x_BTND)) for shares_N in named]
        if self.down is not None and self.up is not None:
            last_BTD = x_BTND[..., -1, :]
            hidden_BTR = F.gelu(flow.project(F.rms_norm(last_BTD, last_BTD.shape[-1:], None, self.eps), self.down))
            changes = flow.project(hidden_BTR, self.up).chunk(len(shares), dim=-1)
            shares = [a_N + change_BTN for a_N, change_BTN in zip(shares, changes, strict=True)]
        return [(w_BTN[..., None].to(x_BTND.dtype) * read_BTND).sum(-2) for w_BTN in shares]


class Dense(_Reading, LayerConnection):
    """A layer reads sums, and what it gives is one state more."""

    def __init__(self, plan: DensePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.first_reads = 1 if self.apart else 0

    def predicted(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        sums = self._sums(x_BTND, flow)
        for name, read_BTD in zip(self.gives, sums[2:] if self.apart else sums * len(self.gives), strict=True):
            flow.signals[SIGNALS[name]] = self._normed(name, read_BTD, flow)
        return torch.cat((torch.stack(sums[: 1 + self.first_reads], dim=-2), x_BTND), dim=-2)

    def _normed(self, name: str, x_BTD: Tensor, flow: Flow) -> Tensor:
        norm = self._modules.get(f"{name}_norm")
        return norm(x_BTD, flow) if isinstance(norm, Norm) else x_BTD

    def corrected(self, predicted_BTND: Tensor, y_BTD: Tensor, flow: Flow) -> Tensor:
        del flow
        return torch.cat((predicted_BTND[..., 1 + self.first_reads :, :], y_BTD[..., None, :]), dim=-2)


class First(Beginning):
    """One state."""

    def begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        del flow
        return x_BTD[..., None, :]


class DenseEnd(_Reading, End):
    """The sum of the states of all layers."""

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        (sum_BTD,) = self._sums(x_BTND, flow)
        return sum_BTD
