"""The statistics of attention heads that the probe measures: the definition, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.attention.reference import positions, visible
from evo.kernels.attention.stencil import Stencil

STATISTICS = ("span", "variance", "entropy", "square", "share_below")


def sampled_rows(queries: int, stride: int) -> tuple[int, int]:
    """First sampled row and how many: every `stride`-th row from the middle of the first stride."""
    start = min(stride // 2, max(queries - 1, 0))
    return start, len(range(start, queries, stride))


def reference_rows(
    q, k, sink, slopes, segments, lse, stencil: Stencil, offset: int, scale: float, cap, threshold: float, stride: int
) -> Tensor:
    """The statistics of each sampled row, (5, B, H, R), in the order of STATISTICS: the definition."""
    start, _ = sampled_rows(q.shape[1], stride)
    rows = slice(start, None, stride)
    compute = torch.promote_types(q.dtype, torch.float32)
    kk = k.to(compute).repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    logits = torch.einsum("bthk,bshk->bhts", q[:, rows].to(compute), kk) * scale
    logits = logits if not cap else cap * torch.tanh(logits / cap)
    query_T1, key_1S = positions(q.shape[1], k.shape[1], offset, None, q.device)
    query_T1 = query_T1[rows]
    away = (query_T1 - key_1S).to(compute)
    if slopes is not None:
        logits = logits - slopes.to(compute)[:, None, None] * away.abs()
    seen = visible(stencil, query_T1, key_1S, None if segments is None else (segments[:, rows], segments))
    logits = logits.masked_fill(~seen, float("-inf"))
    level = _levels(logits, sink) if lse is None else lse[:, :, rows, None].to(compute)
    p = (logits - level).exp().masked_fill(~seen, 0.0)
    mass = p.sum(-1, keepdim=True)
    centre = (p * away).sum(-1, keepdim=True) / mass.clamp(min=1e-30)
    below = ((p < threshold) & seen).sum(-1) / seen.sum(-1).clamp(min=1)
    entropy = (p * (level - logits).masked_fill(~seen, 0.0)).sum(-1)
    variance = (p * (away - centre).square()).sum(-1)
    return torch.stack([(p * away.abs()).sum(-1), variance, entropy, p.square().sum(-1), below.expand_as(entropy)])


def _levels(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Log-sum-exp of each row, the sink included; 0 where nothing is seen."""
    if sink is not None:
        column = sink.to(logits.dtype)[None, :, None, None].expand(*logits.shape[:-1], 1)
        logits = torch.cat([logits, column], dim=-1)
    level = logits.logsumexp(-1, keepdim=True)
    return level.masked_fill(level.isinf(), 0.0)
