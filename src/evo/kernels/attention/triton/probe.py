"""The probe as a Triton kernel: one pass over the keys for the log-sum-exp (when not given), one for the statistics."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from evo.kernels.attention.statistics import sampled_rows
from evo.kernels.attention.triton.launch import LAUNCHES, Call, Extras, align16, strides
from evo.kernels.attention.triton.launch_cache import Launch, specialization_key
from evo.kernels.attention.triton.operator import unpack
from evo.kernels.attention.triton.stencil_tiles import PREFIX, key_band, key_core, seen
from evo.kernels.attention.triton.tile_ops import LOG2E, logits
from evo.kernels.attention.triton.tiles import Tiles
from evo.kernels.operators import operator
from evo.kernels.triton_rows import load_rows
from evo.kernels.triton_support import dense, pad_to_pow2

LN2 = tl.constexpr(0.6931471805599453)
# The logit of a closed key: below every other, and finite, so that zero probability times it is zero.
CLOSED = tl.constexpr(-1e38)


@triton.jit
def _tile(
    q, k_base, k_stride, n, edge, at_m, ids_m, ids_base, keys, size, sinks, dilation, period, scale, cap, slope,
    FORM: tl.constexpr, N: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Logits of one key tile, in log 2 units, (M, N / PARTS, PARTS). Only tiles on an `edge` have closed keys."""
    K: tl.constexpr = FORM.K
    rows = n + tl.arange(0, N)
    k = load_rows(k_base, n, k_stride, keys, N, K, K, True)
    x, logit_scale, _ = logits(q, k, at_m, rows[None, :], 0, scale, cap, slope, FORM)
    x = x * logit_scale
    if edge:
        x = tl.where(seen(at_m, rows[None, :], keys, size, sinks, dilation, period, FORM.KIND, FORM.CAUSAL), x, CLOSED)
    if FORM.SEGMENTS:
        same = ids_m[:, None] == tl.load(ids_base + rows, mask=rows < keys, other=-1)[None, :]
        x = tl.where(same, x, CLOSED)
    return tl.reshape(x, [x.shape[0], N // PARTS, PARTS])


@triton.jit(do_not_specialize=["T", "S", "R", "start", "stride", "size", "sinks", "dilation", "period", "offset"])
def probe(
    q_ptr, k_ptr, lse_ptr, sink_ptr, slope_ptr, ids_ptr, out_ptr, q_b, q_t, q_h, k_b, k_t, k_h,
    H, T, S, R, rows_in_all, start, stride, threshold, size, sinks, dilation, period, offset, scale, cap,
    FORM: tl.constexpr, SINK: tl.constexpr,
    LSE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """out (5, B, H, R) float32, rows of probe.STATISTICS.

    The first pass over the keys finds each row's level and centre, the second one what is summed about them. Sums over
    keys are kept in PARTS columns and added up behind the loops: threads need not wait for each other inside.
    Later rows come first: under a causal mask they see the most keys.
    """
    K: tl.constexpr = FORM.K
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
    low, high = key_band(first, last, S, size, dilation, FORM.KIND, FORM.CAUSAL)
    core_low, core_high = key_core(first, last, S, size, FORM.KIND, FORM.CAUSAL)
    far_back = sinks
    if FORM.KIND == PREFIX:
        far_back = tl.maximum(size, sinks)
        high = tl.maximum(high, tl.minimum(size, S))
    low = tl.where(far_back > 0, 0, (low // N) * N)
    q = load_rows(q_ptr + b * q_b + h * q_h + start * q_t, tile * M, stride * q_t, R, M, K, K, True)
    k_base = k_ptr + b * k_b + (h // FORM.GROUP) * k_h
    slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if FORM.ALIBI else 0.0
    ids_m = tl.load(ids_ptr + b * T + rows, mask=rows < T, other=-2) if FORM.SEGMENTS else rows
    ids_base = ids_ptr + b * S if FORM.SEGMENTS else 0
    steps = tl.arange(0, N // PARTS)[:, None] * PARTS + tl.arange(0, PARTS)[None, :]
    steps = steps.to(tl.float32)[None, :, :]

    row_max = tl.full([M, PARTS], CLOSED, tl.float32)
    if LSE:
        given = tl.load(lse_ptr + head.to(tl.int64) * T + rows, mask=rows < T, other=0.0) * LOG2E
        row_max = tl.zeros([M, PARTS], tl.float32) + tl.where(given == float("inf"), 0.0, given)[:, None]
    total = tl.zeros([M, PARTS], tl.float32)
    moment = tl.zeros([M, PARTS], tl.float32)
    for n in tl.range(low, high, N):
        x = _tile(
            q, k_base, k_t, n, (n < core_low) | (n + N > core_high), at_m, ids_m, ids_base, S, size, sinks,
            dilation, period, scale, cap, slope, FORM, N, PARTS,
        )  # fmt: skip
        if not LSE:
            higher = tl.maximum(row_max, tl.max(x, 1))
            shrink = tl.exp2(row_max - higher)
            total *= shrink
            moment *= shrink
            row_max = higher
        p = tl.exp2(x - row_max[:, None, :])
        total += tl.sum(p, 1)
        moment += tl.sum(p * ((at_m - n).to(tl.float32)[:, :, None] - steps), 1)
    top = tl.max(row_max, 1)
    share = tl.exp2(row_max - top[:, None])
    total_M = tl.sum(total * share, 1)
    moment_M = tl.sum(moment * share, 1)
    centre = moment_M / tl.maximum(total_M, 1e-30)
    level = top
    if not LSE:
        pointer = tl.where(top > CLOSED, total_M, 0.0)
        if SINK:
            sink = tl.load(sink_ptr + h).to(tl.float32) * LOG2E
            level = tl.maximum(top, sink)
            pointer = pointer * tl.exp2(top - level) + tl.exp2(sink - level)
        level = tl.where(pointer > 0.0, level + tl.log2(tl.where(pointer > 0.0, pointer, 1.0)), 0.0)
    span_M = moment_M * tl.exp2(top - level)

    span = tl.zeros([M, PARTS], tl.float32)
    spread = tl.zeros([M, PARTS], tl.float32)
    entropy = tl.zeros([M, PARTS], tl.float32)
    square = tl.zeros([M, PARTS], tl.float32)
    below = tl.zeros([M, PARTS], tl.float32)
    closed = tl.zeros([M, PARTS], tl.float32)
    for n in tl.range(low, high, N):
        edge = (n < core_low) | (n + N > core_high)
        x = _tile(
            q, k_base, k_t, n, edge, at_m, ids_m, ids_base, S, size, sinks,
            dilation, period, scale, cap, slope, FORM, N, PARTS,
        )  # fmt: skip
        if edge or FORM.SEGMENTS:
            closed += tl.sum(tl.where(x == CLOSED, 1.0, 0.0), 1)
        rarity = level[:, None, None] - x
        p = tl.exp2(-rarity)
        entropy += tl.sum(p * rarity, 1)
        square += tl.sum(p * p, 1)
        below += tl.sum(tl.where(p < threshold, 1.0, 0.0), 1)
        if not (FORM.CAUSAL and FORM.KIND != PREFIX):
            span += tl.sum(p * tl.abs((at_m - n).to(tl.float32)[:, :, None] - steps), 1)
        gap = ((at_m - n).to(tl.float32) - centre[:, None])[:, :, None] - steps
        spread += tl.sum(p * gap * gap, 1)
    if not (FORM.CAUSAL and FORM.KIND != PREFIX):
        span_M = tl.sum(span, 1)
    closed_M = tl.sum(closed, 1)
    open_M = tl.cdiv(tl.maximum(high - low, 0), N) * N - closed_M
    rare = (tl.sum(below, 1) - closed_M) / tl.maximum(open_M, 1.0)
    at = head.to(tl.int64) * R + slots
    tl.store(out_ptr + at, span_M, mask=slots < R)
    tl.store(out_ptr + rows_in_all + at, tl.sum(spread, 1), mask=slots < R)
    tl.store(out_ptr + 2 * rows_in_all + at, tl.sum(entropy, 1) * LN2, mask=slots < R)
    tl.store(out_ptr + 3 * rows_in_all + at, tl.sum(square, 1), mask=slots < R)
    tl.store(out_ptr + 4 * rows_in_all + at, rare, mask=slots < R)


def tiles_for(dim: int, dtype: torch.dtype) -> Tiles:
    """The sampled rows of a tile lie far apart, and all of them read the keys that the last one sees."""
    return Tiles(16, 32, 4, 2) if dtype == torch.float32 or dim > 128 else Tiles(64, 64, 4, 3)


def parts_of(tiles: Tiles) -> int:
    """Columns of a tile of logits after which the same thread holds the next ones: 8 for each warp beside another."""
    return 8 * max(tiles.warps * 16 // tiles.M, 1)


@operator("probe_rows")
def probe_rows(
    q: Tensor, k: Tensor, sink: Tensor | None, slopes: Tensor | None, segments: Tensor | None, lse: Tensor | None,
    stencil: list[int], offset: int, scale: float, cap: float, threshold: float, stride: int,
) -> Tensor:  # fmt: skip
    """The same as `probe.reference_rows`, (5, B, H, R) float32."""
    q, k = align16(pad_to_pow2(q)), align16(pad_to_pow2(k.to(q.dtype)))
    sink, slopes, segments, lse = map(dense, (sink, slopes, segments, lse))
    B, T, H, K = q.shape
    start, count = sampled_rows(T, stride)
    out = torch.empty(5, B, H, count, dtype=torch.float32, device=q.device)
    if out.numel() == 0:
        return out
    given, call = (q, k, lse, sink, slopes, segments), Call(unpack(stencil), offset, scale, cap)
    known = LAUNCHES.of("probe", (call, threshold, stride, specialization_key(*given)))
    if known.launch is None:
        tiles = tiles_for(K, q.dtype)
        form = call.form(q, k, k, Extras(slopes=slopes, ids_q=segments), tma=False)._replace(ALIBI_IN_LSE=False)
        rest = call.numbers() | strides(q, k) | {"FORM": form}
        rest |= {"H": H, "T": T, "S": k.shape[1], "R": count, "rows_in_all": B * H * count, "start": start}
        rest |= {"stride": stride, "threshold": threshold, "SINK": sink is not None, "LSE": lse is not None}
        rest |= tiles.options() | {"PARTS": parts_of(tiles)}
        known.launch = Launch(probe, (-(-count // tiles.M) * B * H,), rest)
    known.launch(*given, out)
    return out


@probe_rows.register_fake
def _(q, k, sink, slopes, segments, lse, stencil, offset, scale, cap, threshold, stride):
    B, T, H, _ = q.shape
    return q.new_empty(5, B, H, sampled_rows(T, stride)[1], dtype=torch.float32)
