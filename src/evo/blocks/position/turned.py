"""Magnitudes that turn by position."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Position
from evo.blocks.position.polar import PolarPlan
from evo.blocks.position.table import Table


class Polar(Position):
    """softplus of each channel as the length of a vector in the plane, which turns by position times its frequency;
    those of queries lag by a phase of their own (Gopalakrishnan et al. 2509.10534, eqs. 5 to 8).

    phase: (H, K), read within -2 pi and 0. The paper adds it to keys, of as many heads as queries have.
    """

    phase: nn.Parameter

    def __init__(self, plan: PolarPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.frequencies = torch.tensor(plan.frequencies, dtype=torch.float64)
        self.cos, self.sin = Table(self._cosines), Table(self._sines)

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Cosine parts and sine parts side by side: (B, T, H, 2 K) and (B, T, G, 2 K)."""
        at = (offset, offset + q_BTHK.shape[1], q_BTHK.device, q_BTHK.dtype)
        cos_T1K, sin_T1K = self.cos.rows(*at), self.sin.rows(*at)
        lag_HK = self.phase.clamp(-2.0 * math.pi, 0.0)
        cos_HK, sin_HK = lag_HK.cos().to(q_BTHK.dtype), lag_HK.sin().to(q_BTHK.dtype)
        lagging = cos_T1K * cos_HK + sin_T1K * sin_HK, sin_T1K * cos_HK - cos_T1K * sin_HK
        return spread(q_BTHK, *lagging), spread(k_BTGK, cos_T1K, sin_T1K)

    def _cosines(self, positions_T: Tensor) -> Tensor:
        return torch.outer(positions_T, self.frequencies)[:, None].cos()

    def _sines(self, positions_T: Tensor) -> Tensor:
        return torch.outer(positions_T, self.frequencies)[:, None].sin()


def spread(x_BTHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """softplus(x) times cosines, and times sines."""
    length_BTHK = F.softplus(x_BTHK)
    return torch.cat((length_BTHK * cos, length_BTHK * sin), dim=-1)
