"""The probe as a Triton kernel: one pass over the keys for the log-sum-exp (when not given), one for the statistics."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evo.kernels.attention.probe import sampled_rows
from evo.kernels.attention.stencil import Stencil
from evo.kernels.attention.triton_call import Call, Extras, loadable, strides
from evo.kernels.attention.triton_logits import logits, seen
from evo.kernels.attention.triton_reads import LOG2E
from evo.kernels.attention.triton_settled import settled
from evo.kernels.attention.triton_sizes import Tiles
from evo.kernels.attention.triton_tiles import PREFIX, key_band, key_core
from evo.kernels.triton_relaunch import Launch, facts
from evo.kernels.triton_rows import load_rows
from evo.kernels.triton_support import widened

LN2 = tl.constexpr(0.6931471805599453)
# Below every logit, and finite: zero probability times it is zero.
LOWEST = tl.constexpr(-1e38)


@triton.jit
def _tile(
    q, k_base, k_stride, n, edge, at_m, ids_m, ids_base, keys, size, sinks, dilation, period, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    K: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits of one key tile, in log 2 units, -inf where closed. Only tiles on an `edge` are masked by the stencil."""
    rows = n + tl.arange(0, N)
    k = load_rows(k_base, n, k_stride, keys, N, K, K, True)
    x, unit, _ = logits(q, k, at_m, rows[None, :], 0, scale, cap, slope, CAP, ALIBI, False, PRECISION)
    x = x * unit
    if edge:
        x = tl.where(seen(at_m, rows[None, :], keys, size, sinks, dilation, period, KIND, CAUSAL), x, float("-inf"))
    if SEGMENTS:
        same = ids_m[:, None] == tl.load(ids_base + rows, mask=rows < keys, other=-1)[None, :]
        x = tl.where(same, x, float("-inf"))
    return x


@triton.jit(do_not_specialize=["T", "S", "R", "start", "stride", "size", "sinks", "dilation", "period", "offset"])
def probe(
    q_ptr, k_ptr, lse_ptr, sink_ptr, slope_ptr, ids_ptr, out_ptr, q_b, q_t, q_h, k_b, k_t, k_h,
    H, T, S, R, rows_in_all, start, stride, threshold, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, SINK: tl.constexpr,
    ALIBI: tl.constexpr, SEGMENTS: tl.constexpr, LSE: tl.constexpr, K: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (5, B, H, R) float32, rows of probe.STATISTICS. Moments of distances merge by tiles (Chan et al. 1983).

    Later rows come first: under a causal mask they see the most keys.
    """
    heads = tl.num_programs(0) // tl.cdiv(R, M)
    head = tl.program_id(0) % heads
    tile = tl.cdiv(R, M) - 1 - tl.program_id(0) // heads
    b = (head // H).to(tl.int64)
    h = head % H
    slots = tile * M + tl.arange(0, M)
    rows = start + slots * stride
    at_m = offset + rows[:, None]
    first = offset + start + tile * M * stride
    last = tl.minimum(first + (M - 1) * stride, offset + T - 1)
    low, high = key_band(first, last, S, size, dilation, KIND, CAUSAL)
    core_low, core_high = key_core(first, last, S, size, KIND, CAUSAL)
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
        level = tl.where(level == float("inf"), 0.0, level)
    else:
        peak = tl.full([M], float("-inf"), tl.float32)
        total = tl.zeros([M], tl.float32)
        if SINK:
            peak = tl.zeros([M], tl.float32) + tl.load(sink_ptr + h).to(tl.float32) * LOG2E
            total = total + 1.0
        for n in tl.range(low, high, N):
            x = _tile(
                q, k_base, k_t, n, (n < core_low) | (n + N > core_high), at_m, ids_m, ids_base, S, size, sinks,
                dilation, period, scale, cap, slope, KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, N, PRECISION,
            )  # fmt: skip
            higher = tl.maximum(peak, tl.max(x, 1))
            safe = tl.where(higher == float("-inf"), 0.0, higher)
            total = total * tl.exp2(peak - safe) + tl.sum(tl.exp2(x - safe[:, None]), 1)
            peak = higher
        level = tl.where(total > 0.0, peak + tl.log2(tl.where(total > 0.0, total, 1.0)), 0.0)
    steps = tl.arange(0, N)[None, :].to(tl.float32)
    span = tl.zeros([M], tl.float32)
    entropy = tl.zeros([M], tl.float32)
    square = tl.zeros([M], tl.float32)
    below = tl.zeros([M], tl.int32)
    count = tl.zeros([M], tl.int32)
    mass = tl.zeros([M], tl.float32)
    centre = tl.zeros([M], tl.float32)
    spread = tl.zeros([M], tl.float32)
    for n in tl.range(low, high, N):
        x = _tile(
            q, k_base, k_t, n, (n < core_low) | (n + N > core_high), at_m, ids_m, ids_base, S, size, sinks,
            dilation, period, scale, cap, slope, KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, N, PRECISION,
        )  # fmt: skip
        p = tl.exp2(x - level[:, None])
        entropy += tl.sum(p * (level[:, None] - tl.maximum(x, LOWEST)), 1)
        square += tl.sum(p * p, 1)
        # Both counts of a tile in one sum: neither exceeds N.
        both = tl.sum(tl.where(x >= LOWEST, tl.where(p < threshold, 2 * N + 1, 2 * N), 0), 1)
        below += both % (2 * N)
        count += both // (2 * N)
        away = (at_m - n).to(tl.float32) - steps
        here = tl.sum(p, 1)
        moment = tl.sum(p * away, 1)
        span += moment if CAUSAL and KIND != PREFIX else tl.sum(p * tl.abs(away), 1)
        inner = moment / tl.maximum(here, 1e-30)
        gap = away - inner[:, None]
        share = here / tl.maximum(mass + here, 1e-30)
        step = inner - centre
        spread += tl.sum(p * gap * gap, 1) + step * step * mass * share
        centre += step * share
        mass += here
    at = head.to(tl.int64) * R + slots
    rare = below.to(tl.float32) / tl.maximum(count, 1).to(tl.float32)
    tl.store(out_ptr + at, span, mask=slots < R)
    tl.store(out_ptr + rows_in_all + at, spread, mask=slots < R)
    tl.store(out_ptr + 2 * rows_in_all + at, entropy * LN2, mask=slots < R)
    tl.store(out_ptr + 3 * rows_in_all + at, square, mask=slots < R)
    tl.store(out_ptr + 4 * rows_in_all + at, rare, mask=slots < R)


FEW_ROWS = 256


def tiles_for(rows: int, dim: int, dtype: torch.dtype) -> Tiles:
    """Few rows lie far apart, and a tile reads all keys that its last row sees: tiles of 16, each for one warp, so that
    sums over keys stay inside it. Many rows share the keys that they read."""
    if dtype == torch.float32 or dim > 128:
        return Tiles(16, 32, 4, 2)
    return Tiles(16, 64, 1, 2) if rows <= FEW_ROWS else Tiles(64, 64, 4, 2)


def probe_rows(
    q: Tensor, k: Tensor, sink, slopes, segments, lse, stencil: Stencil, offset: int, scale: float, cap: float,
    threshold: float, stride: int,
) -> Tensor:  # fmt: skip
    """The same as `probe.reference_rows`, (5, B, H, R) float32."""
    q, k = loadable(widened(q)), loadable(widened(k))
    B, T, H, K = q.shape
    start, count = sampled_rows(T, stride)
    out = torch.empty(5, B, H, count, dtype=torch.float32, device=q.device)
    if out.numel() == 0:
        return out
    ids = None if segments is None else segments.contiguous()
    lse = None if lse is None else lse.contiguous()
    given, call = (q, k, lse, sink, slopes, ids), Call(stencil, offset, scale, cap)
    known = settled("probe", (call, threshold, stride, facts(*given)))
    if known.launch is None:
        tiles = tiles_for(count, K, q.dtype)
        parts = call.parts(q, k, k, Extras(slopes=slopes, ids_q=segments))
        rest = {name: x for name, x in parts.items() if name in probe.arg_names} | call.numbers() | strides(q, k)
        rest |= {"H": H, "T": T, "S": k.shape[1], "R": count, "rows_in_all": B * H * count, "start": start}
        rest |= {"stride": stride, "threshold": threshold, "SINK": sink is not None, "LSE": lse is not None}
        rest |= tiles.options()
        known.launch = Launch(probe, (-(-count // tiles.M) * B * H,), rest)
    known.launch(*given, out)
    return out
