"""Fractions of a stream, what sublayers read and write of them, and the stream whole again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.streams.fractions.spec import CutPlan, FractionsPlan
from evo.blocks.streams.module import Beginning, Connection, End, Read, mixed


class Cut(Beginning):
    """A vector in parts."""

    def __init__(self, plan: CutPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.count = plan.count

    def begun(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, N, D / N)."""
        del flow
        return x_BTD.unflatten(-1, (self.count, -1))


class Fractions(Connection):
    """Zhu et al. 2503.14125: a sublayer f reads Y^T H, and H becomes A^T H + b f(Y^T H), in fractions too."""

    reads: nn.Parameter
    mix: nn.Parameter
    writes: nn.Parameter
    changes: nn.Parameter | None
    scales: nn.Parameter | None

    def __init__(self, plan: FractionsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps, self.count = plan.eps, plan.count

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        shares_NM = torch.cat((self.reads, self.mix), dim=1)
        write_N: Tensor = self.writes
        if self.changes is not None and self.scales is not None:
            normed_BTND = F.rms_norm(x_BTND, x_BTND.shape[-1:], None, self.eps)
            changes = torch.tanh(flow.project(normed_BTND, self.changes).to(compute_dtype(x_BTND)))
            shares_NM = shares_NM + self.scales[0] * changes[..., :-1]
            write_N = write_N + self.scales[1] * changes[..., -1]
        mixed_BTMD = mixed(x_BTND, shares_NM)
        return mixed_BTMD[..., : self.count, :].flatten(-2), mixed_BTMD[..., self.count :, :], write_N

    def written(self, kept_BTND: Tensor, gains_N: Tensor | None, y_BTD: Tensor, flow: Flow) -> Tensor:
        del flow
        assert gains_N is not None
        y_BTND = y_BTD.unflatten(-1, (self.count, -1))
        return kept_BTND + gains_N[..., None].to(y_BTD.dtype) * y_BTND


class WholeEnd(End):
    """The fractions side by side."""

    def ended(self, x_BTND: Tensor, flow: Flow) -> Tensor:
        """(B, T, N, D / N) -> (B, T, D)."""
        del flow
        return x_BTND.flatten(-2)
