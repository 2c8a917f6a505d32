"""How far outputs reach back, by how much each depends on each earlier input: for any kind of mixer."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 8
"""Tokens of distance that count as near."""


def reach(influence_QT: Tensor, queries_Q: Tensor) -> tuple[Tensor, Tensor]:
    """The span and the locality of outputs at some positions, (..., Q) each; NaN where nothing reaches one.

    span: sum_s I(t,s) (t - s) / (t sum_s I(t,s)), the mean distance of influence as a share of the largest there could
    be. locality: the share of the influence that comes from the nearest 8 tokens.

    Args:
        influence_QT: (..., Q, T) >= 0, zero at and behind each query.
        queries_Q: (Q,) positions, at least 1.
    """
    distance_QT = (queries_Q[:, None] - torch.arange(influence_QT.shape[-1], device=queries_Q.device)).clamp_min(0)
    mass_Q = influence_QT.sum(-1)
    mass_Q = torch.where(mass_Q > 0, mass_Q, torch.nan)
    span_Q = (influence_QT * distance_QT).sum(-1) / (queries_Q * mass_Q)
    near_Q = (influence_QT * (distance_QT <= NEAR)).sum(-1) / mass_Q
    return span_Q, near_Q
