"""Behaviour of attention heads, measured on strided query rows: how far, how spread, how sharp, how sparse.

The probabilities are made again from q and k, so that any backend can have run. Rows are strided and not taken in
blocks, because a block of rows is biased by its position under a causal mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.attention.attend import plan
from evo.kernels.attention.problem import AttentionProblem
from evo.kernels.attention.reference import positions, visible
from evo.kernels.attention.stencil import Stencil
from evo.kernels.dispatch import AUTO, BackendError
from evo.kernels.triton_support import machine_reasons

STATISTICS = ("span", "variance", "entropy", "square", "share_below")


@dataclass(frozen=True)
class HeadStatistics:
    """Means over batch and sampled rows, each (H,) float32 (float64 for float64 inputs).

    span: sum_s p |t - s|, in tokens. variance: of the attended position. entropy: -sum p ln p, in nats.
    square: sum p^2. share_below: of the keys that a query may see, the share with p under the threshold.
    With a learned sink the probabilities sum to less than one, and are taken as they are.
    """

    span: Tensor
    variance: Tensor
    entropy: Tensor
    square: Tensor
    share_below: Tensor


def sampled_rows(queries: int, stride: int) -> tuple[int, int]:
    """First sampled row and how many: every `stride`-th row from the middle of the first stride."""
    start = min(stride // 2, max(queries - 1, 0))
    return start, len(range(start, queries, stride))


@torch.no_grad()
def probe(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    *,
    stencil: Stencil,
    scale: float | None = None,
    soft_cap: float | None = None,
    sink_logits_H: Tensor | None = None,
    alibi_slopes_H: Tensor | None = None,
    query_offset: int = 0,
    segments_BT: Tensor | None = None,
    lse_BHT: Tensor | None = None,
    threshold: float = 1e-3,
    row_stride: int = 16,
    backend: str = AUTO,
) -> HeadStatistics:
    """Statistics of the heads of an `attend` call with these arguments (neither a bias nor key positions).

    Exact when `row_stride` is 1. `lse_BHT` is the natural log-sum-exp of every row, as flash kernels return it (learned
    sink included); without it the probe computes it for the rows it samples. NaN where there is no row.
    Raises ValueError on shapes that do not fit, BackendError when `backend` is unknown or cannot run.
    """
    B, T, H, K = q_BTHK.shape
    segments = None if segments_BT is None else (segments_BT, segments_BT)
    parts = {"sink_logits_H": sink_logits_H, "alibi_slopes_H": alibi_slopes_H, "segments": segments}
    problem = plan(q_BTHK, k_BSGK, k_BSGK, stencil, soft_cap=soft_cap, query_offset=query_offset, **parts)
    if lse_BHT is not None and lse_BHT.shape != (B, H, T):
        raise ValueError(f"lse_BHT must be {(B, H, T)}, found {tuple(lse_BHT.shape)}")
    if row_stride < 1:
        raise ValueError(f"row_stride must be at least 1, found {row_stride}")
    read = (q_BTHK, k_BSGK, sink_logits_H, alibi_slopes_H, segments_BT, lse_BHT)
    scale = float(K**-0.5) if scale is None else scale
    numbers = (query_offset, scale, soft_cap or 0.0, threshold, row_stride)
    if _takes_triton(problem, backend):
        from evo.kernels.attention.triton_operator import pack
        from evo.kernels.attention.triton_probe import probe_rows

        rows = probe_rows(*read, pack(stencil), *numbers)
    else:
        rows = reference_rows(*read, stencil, *numbers)
    return HeadStatistics(*rows.mean(dim=(1, 3)))


def _takes_triton(problem: AttentionProblem, backend: str) -> bool:
    if backend not in (AUTO, "triton", "reference"):
        raise BackendError(f"probe: unknown backend {backend!r}; known: {AUTO}, triton, reference")
    reasons = machine_reasons(problem.device, problem.dtype)
    if backend == "triton" and reasons:
        raise BackendError(f"probe: backend 'triton' cannot run this problem: {'; '.join(reasons)}")
    return backend == "triton" or (backend == AUTO and problem.device == "cuda" and not reasons)


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
