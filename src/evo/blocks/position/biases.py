"""Biases of scores that depend on the distance of query and key."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Distances, Position
from evo.blocks.flow import Flow
from evo.blocks.position.relative import BucketsPlan, FirePlan, KerplePlan, QueriedPlan, XLPlan
from evo.blocks.position.table import Table


class Buckets(Position):
    """bias[bucket of t - s, h] (Raffel et al. 2020): a bucket a distance, then buckets that grow by a factor."""

    bias: nn.Parameter

    def __init__(self, plan: BucketsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        return self.bias[self.bucket(at.of_TS)].permute(2, 0, 1)

    def bucket(self, distance_TS: Tensor) -> Tensor:
        """The number of the bucket of each distance t - s, int64."""
        count, first = self.plan.buckets, 0
        if self.plan.both:
            count //= 2
            first = count * (distance_TS < 0)
            distance_TS = distance_TS.abs()
        distance_TS, near = distance_TS.clamp_min(0), count // 2
        ratio = (distance_TS.clamp_min(1).float() / near).log() / math.log(self.plan.furthest / near)
        far_TS = (near + (ratio * (count - near)).long()).clamp_max(count - 1)
        return first + torch.where(distance_TS < near, distance_TS, far_TS)


LEAST = 0.01
"""Of KERPLE's numbers, which are learned freely and kept positive, in the authors' code."""


class Kerple(Position):
    """- a log(1 + b d) or - a d^b by head, d = t - s (Chi et al. 2022)."""

    a: nn.Parameter
    b: nn.Parameter

    def __init__(self, plan: KerplePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.is_power = plan.is_power

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        a_H11, b_H11 = (number.clamp_min(LEAST)[:, None, None] for number in (self.a, self.b))
        distance_TS = at.of_TS.clamp_min(0).to(a_H11.dtype)
        if self.is_power:
            return -a_H11 * distance_TS ** b_H11.clamp_max(2.0)
        return -a_H11 * (b_H11 * distance_TS).log1p()


class Fire(Position):
    """W relu(rate z + shift), z = log(1 + c (t - s)) / log(1 + c max(t, L)) (Li et al. 2023).

    The published bias of W adds one number to all scores of a head, which no softmax sees: it is left out.
    """

    c: nn.Parameter
    reach: nn.Parameter
    rate: nn.Parameter
    shift: nn.Parameter
    out: nn.Parameter

    def __init__(self, plan: FirePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.threshold = plan.threshold

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        distance_TS = at.of_TS.clamp_min(0).to(self.c.dtype)
        scale_T = torch.maximum(at.queries_T.to(self.c.dtype), (self.reach * self.threshold).abs())
        share_TS = self._grown(distance_TS) / (self._grown(scale_T)[:, None] + 1e-6)
        hidden_TSF = F.relu(share_TS[..., None] * self.rate + self.shift)
        return flow.project(hidden_TSF, self.out).permute(2, 0, 1)

    def _grown(self, distance: Tensor) -> Tensor:
        return (self.c * distance).abs().log1p()


class Queried(Position):
    """(profiles W_r x_t)_{t - s}, 0 from `extent` on and for later keys."""

    heats_bias = True
    r: nn.Parameter
    profiles: nn.Parameter

    def __init__(self, plan: QueriedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.extent = plan.heads, plan.extent

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        mixed_BTHR = flow.project(x_BTD, self.r).unflatten(-1, (self.heads, -1))
        by_distance_BHTE = flow.project(mixed_BTHR, self.profiles).transpose(1, 2)
        return at.gathered(by_distance_BHTE).masked_fill((at.of_TS < 0) | (at.of_TS >= self.extent), 0.0)


class Relative(Position):
    """scale q_t e(t - s), the furthest vector beyond it (Shaw et al. 2018, eq. 4, without those of values)."""

    vectors: nn.Parameter

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        if self.vectors.ndim == 2:
            by_distance_BHTE = flow.project(q_BTHK, self.vectors).transpose(1, 2)
        else:
            by_distance_BHTE = flow.project(q_BTHK.movedim(2, 0), self.vectors).transpose(0, 1)
        return scale * at.gathered(by_distance_BHTE)


class TransformerXL(Position):
    """Queries plus u for contents, and scale (q + v) W_r sinusoids(t - s) (Dai et al. 2019, section 3.3)."""

    r: nn.Parameter
    u: nn.Parameter
    v: nn.Parameter

    def __init__(self, plan: XLPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.head_dim = plan.heads, plan.head_dim
        self.frequencies = torch.tensor(plan.frequencies, dtype=torch.float64)
        self.table = Table(self._sinusoids)

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Queries plus u."""
        del offset
        return q_BTHK + self.u.unflatten(0, (self.heads, -1)), k_BTGK

    def bias_HTS(self, x_BTD: Tensor, q_BTHK: Tensor, scale: float, at: Distances, flow: Flow) -> Tensor:
        table_EC = self.table.rows(0, int(at.most), q_BTHK.device, q_BTHK.dtype)
        r_EHK = flow.project(table_EC, self.r).unflatten(-1, (self.heads, -1))
        asked_BTHK = q_BTHK + (self.v - self.u).unflatten(0, (self.heads, -1))
        return scale * at.gathered(torch.einsum("bthk,ehk->bhte", asked_BTHK, r_EHK.to(asked_BTHK.dtype)))

    def _sinusoids(self, positions_T: Tensor) -> Tensor:
        angles = torch.outer(positions_T, self.frequencies)
        return torch.cat((angles.sin(), angles.cos()), -1)
