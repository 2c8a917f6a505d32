"""Behaviour of attention heads, measured on strided query rows: how far, how spread, how sharp, how sparse.

The probabilities are made again from q and k, so that any backend can have run. Rows are strided and not taken in
blocks, because a block of rows is biased by its position under a causal mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.attention.attend import plan
from evo.kernels.attention.call import AttentionExtras
from evo.kernels.attention.statistics import reference_rows
from evo.kernels.attention.stencil import Stencil
from evo.kernels.dispatch import AUTO, Backend, KernelCall, Table, always, choose
from evo.kernels.triton_support import machine_reasons


@dataclass(frozen=True, kw_only=True)
class ProbeCall(KernelCall):
    """One `probe` call."""

    family: str = "probe"


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
    extras = AttentionExtras(soft_cap, sink_logits_H, alibi_slopes_H, query_offset=query_offset, segments=segments)
    described = plan(q_BTHK, k_BSGK, k_BSGK, stencil, **extras._asdict())
    if lse_BHT is not None and lse_BHT.shape != (B, H, T):
        raise ValueError(f"lse_BHT must be {(B, H, T)}, found {tuple(lse_BHT.shape)}")
    if row_stride < 1:
        raise ValueError(f"row_stride must be at least 1, found {row_stride}")
    read = (q_BTHK, k_BSGK, sink_logits_H, alibi_slopes_H, segments_BT, lse_BHT)
    scale = float(K**-0.5) if scale is None else scale
    numbers = (query_offset, scale, soft_cap or 0.0, threshold, row_stride)
    call = ProbeCall(device=described.device, dtype=described.dtype)
    rows = choose(TABLE, call, backend).backend.run(*read, stencil, *numbers)
    return HeadStatistics(*rows.mean(dim=(1, 3)))


def _run_triton(q, k, sink, slopes, segments, lse, stencil: Stencil, *numbers) -> Tensor:
    """The kernel; triton is imported here and not before."""
    from evo.kernels.attention.triton.operator import pack
    from evo.kernels.attention.triton.probe import probe_rows

    return probe_rows(q, k, sink, slopes, segments, lse, pack(stencil), *numbers)


def _reasons(call: ProbeCall) -> list[str]:
    return machine_reasons(call.device, call.dtype)


TABLE = Table(
    family="probe",
    backends=(Backend("triton", _run_triton, _reasons), Backend("reference", reference_rows, always)),
    priority={"cpu": ("reference",), "cuda": ("triton", "reference")},
)
