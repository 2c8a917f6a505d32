"""The probe as a Triton kernel: one pass over the keys for the log-sum-exp (when not given), one for the statistics."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evo.kernels.attention.probe import sampled_rows
from evo.kernels.attention.stencil import Stencil
from evo.kernels.attention.triton_call import Call, Extras
from evo.kernels.attention.triton_logits import logits, seen
from evo.kernels.attention.triton_reads import LOG2E
from evo.kernels.attention.triton_tiles import PREFIX, key_band
from evo.kernels.triton_rows import load_rows
from evo.kernels.triton_support import aligned, widened

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _tile(
    q, k_base, k_stride, n, at_m, ids_m, ids_base, keys, size, sinks, dilation, period, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    K: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits (log 2 units, -inf where closed) and the mask of one key tile."""
    rows = n + tl.arange(0, N)
    k = load_rows(k_base, n, k_stride, keys, N, K, K, True)
    x, unit, _ = logits(q, k, at_m, rows[None, :], 0, scale, cap, slope, CAP, ALIBI, False, PRECISION)
    open_ = seen(at_m, rows[None, :], keys, size, sinks, dilation, period, KIND, CAUSAL)
    if SEGMENTS:
        open_ = open_ & (ids_m[:, None] == tl.load(ids_base + rows, mask=rows < keys, other=-1)[None, :])
    return tl.where(open_, x * unit, float("-inf")), open_


@triton.jit(do_not_specialize=["T", "S", "R", "start", "stride", "size", "sinks", "dilation", "period", "offset"])
def probe(
    q_ptr, k_ptr, lse_ptr, sink_ptr, slope_ptr, ids_ptr, out_ptr, q_b, q_t, q_h, k_b, k_t, k_h,
    H, T, S, R, rows_in_all, start, stride, threshold, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, SINK: tl.constexpr,
    ALIBI: tl.constexpr, SEGMENTS: tl.constexpr, LSE: tl.constexpr, K: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (5, B, H, R) float32, rows of probe.STATISTICS. Moments merge tile by tile (Chan et al. 1983)."""
    tiles = tl.cdiv(R, M)
    head = tl.program_id(0) // tiles
    b = (head // H).to(tl.int64)
    h = head % H
    tile = tl.program_id(0) % tiles
    slots = tile * M + tl.arange(0, M)
    rows = start + slots * stride
    at_m = offset + rows[:, None]
    first = offset + start + tile * M * stride
    last = tl.minimum(first + (M - 1) * stride, offset + T - 1)
    low, high = key_band(first, last, S, size, dilation, KIND, CAUSAL)
    far_back = sinks
    if KIND == PREFIX:
        far_back = tl.maximum(size, sinks)
        high = tl.maximum(high, tl.minimum(size, S))
    low = tl.where(far_back > 0, 0, (low // N) * N)
    q = load_rows(q_ptr + b * q_b + h * q_h + start * q_t, tile * M, stride * q_t, R, M, K, K, True)
    k_base = k_ptr + b * k_b + (h // GROUP) * k_h
    slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if ALIBI else 0.0
    ids_m = tl.load(ids_ptr + b * T + rows, mask=rows < T, other=-2) if SEGMENTS else rows
    ids_base = ids_ptr + b * S if SEGMENTS else 0
    if LSE:
        level = tl.load(lse_ptr + head.to(tl.int64) * T + rows, mask=rows < T, other=0.0) * LOG2E
    else:
        peak = tl.full([M], float("-inf"), tl.float32)
        total = tl.zeros([M], tl.float32)
        if SINK:
            peak = tl.zeros([M], tl.float32) + tl.load(sink_ptr + h).to(tl.float32) * LOG2E
            total = total + 1.0
        for n in tl.range(low, high, N):
            x, _ = _tile(
                q, k_base, k_t, n, at_m, ids_m, ids_base, S, size, sinks, dilation, period, scale, cap, slope,
                KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, N, PRECISION,
            )  # fmt: skip
            higher = tl.maximum(peak, tl.max(x, 1))
            safe = tl.where(higher == float("-inf"), 0.0, higher)
            total = total * tl.exp2(peak - safe) + tl.sum(tl.exp2(x - safe[:, None]), 1)
            peak = higher
        level = tl.where(total > 0.0, peak + tl.log2(tl.where(total > 0.0, total, 1.0)), 0.0)
    span = tl.zeros([M], tl.float32)
    entropy = tl.zeros([M], tl.float32)
    square = tl.zeros([M], tl.float32)
    below = tl.zeros([M], tl.float32)
    count = tl.zeros([M], tl.float32)
    mass = tl.zeros([M], tl.float32)
    centre = tl.zeros([M], tl.float32)
    spread = tl.zeros([M], tl.float32)
    for n in tl.range(low, high, N):
        x, open_ = _tile(
            q, k_base, k_t, n, at_m, ids_m, ids_base, S, size, sinks, dilation, period, scale, cap, slope,
            KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, N, PRECISION,
        )  # fmt: skip
        p = tl.exp2(x - level[:, None])
        at_n = n + tl.arange(0, N)[None, :]
        span += tl.sum(p * tl.abs(at_m - at_n).to(tl.float32), 1)
        entropy += tl.sum(p * tl.where(open_, level[:, None] - x, 0.0), 1) * LN2
        square += tl.sum(p * p, 1)
        below += tl.sum(tl.where(open_ & (p < threshold), 1.0, 0.0), 1)
        count += tl.sum(tl.where(open_, 1.0, 0.0), 1)
        near = tl.arange(0, N)[None, :].to(tl.float32)
        here = tl.sum(p, 1)
        inner = tl.sum(p * near, 1) / tl.maximum(here, 1e-30)
        gap = near - inner[:, None]
        both = tl.maximum(mass + here, 1e-30)
        step = inner + n - centre
        spread += tl.sum(p * gap * gap, 1) + step * step * mass * (here / both)
        centre += step * (here / both)
        mass += here
    at = head.to(tl.int64) * R + slots
    tl.store(out_ptr + at, span, mask=slots < R)
    tl.store(out_ptr + rows_in_all + at, spread, mask=slots < R)
    tl.store(out_ptr + 2 * rows_in_all + at, entropy, mask=slots < R)
    tl.store(out_ptr + 3 * rows_in_all + at, square, mask=slots < R)
    tl.store(out_ptr + 4 * rows_in_all + at, below / tl.maximum(count, 1.0), mask=slots < R)


def probe_rows(
    q: Tensor, k: Tensor, sink, slopes, segments, lse, stencil: Stencil, offset: int, scale: float, cap: float,
    threshold: float, stride: int,
) -> Tensor:  # fmt: skip
    """The same as `probe.reference_rows`, (5, B, H, R) float32."""
    q, k = aligned(widened(q)), aligned(widened(k))
    B, T, H, _ = q.shape
    start, count = sampled_rows(T, stride)
    out = torch.empty(5, B, H, count, dtype=torch.float32, device=q.device)
    if out.numel() == 0:
        return out
    call = Call(stencil, offset, scale, cap)
    parts = call.parts(q, k, k, Extras(slopes=slopes, ids_q=segments))
    for name in ("V", "FOLDED", "BIAS", "FREE", "DESCRIBED"):
        del parts[name]
    ids = None if segments is None else segments.contiguous()
    lse = None if lse is None else lse.contiguous()
    M = 64 if count > 32 else 16
    probe[(-(-count // M) * B * H,)](
        q, k, lse, sink, slopes, ids, out, *q.stride()[:3], *k.stride()[:3], H, T, k.shape[1], count, B * H * count,
        start, stride, threshold, *call.numbers(), **parts, SINK=sink is not None, LSE=lse is not None, M=M,
        N=32 if parts["K"] > 128 or q.dtype == torch.float32 else 64, num_warps=4, num_stages=2,
    )  # fmt: skip
    return out
