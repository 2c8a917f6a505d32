"""Forward attention: one program a query tile, online softmax over the key tiles that the stencil leaves."""

import triton
import triton.language as tl

from evo.kernels.attention.triton_tiles import (
    LOG2E,
    RING,
    key_ranges,
    raw_logits,
    ring_is_empty,
    seen,
)
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit
def _sweep(
    acc, total, peak, q, k_base, v_base, k_stride, v_stride, ids_m, ids_base, first, last, start, stop,
    keys, size, sinks, dilation, period, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Fold the key tiles of [start, stop) into the accumulator, the sum and the running maximum (log 2 units)."""
    at_m = first + tl.arange(0, M)[:, None]
    for n in tl.range(start, stop, N):
        n = tl.multiple_of(n, N)
        go = True
        if KIND == RING:
            go = not ring_is_empty(first, last, n, n + N - 1, sinks, size, period, CAUSAL)
        if go:
            rows = n + tl.arange(0, N)
            at_n = rows[None, :]
            k = load_rows(k_base, n, k_stride, keys, N, K, KP, MASKED)
            x, _, unit = raw_logits(q, k, at_m, at_n, scale, cap, slope, CAP, ALIBI, PRECISION)
            if MASKED:
                open_ = seen(at_m, at_n, keys, size, sinks, dilation, period, KIND, CAUSAL)
                if SEGMENTS:
                    open_ = open_ & (ids_m[:, None] == tl.load(ids_base + rows, mask=rows < keys, other=-1)[None, :])
                x = tl.where(open_, x, float("-inf"))
            higher = tl.maximum(peak, tl.max(x, 1) * unit)
            level = higher
            if MASKED:
                level = tl.where(higher == float("-inf"), 0.0, higher)
            p = tl.exp2(x * unit - level[:, None])
            fade = tl.exp2(peak - level)
            total = total * fade + tl.sum(p, 1)
            v = load_rows(v_base, n, v_stride, keys, N, V, VP, MASKED)
            acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision=PRECISION)
            peak = higher
    return acc, total, peak


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def forward(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr, sink_ptr, slope_ptr, ids_q_ptr, ids_k_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, o_b, o_t, o_h,
    H, T, S, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, SINK: tl.constexpr,
    ALIBI: tl.constexpr, SEGMENTS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, V) and lse (B, H, T), natural log, the learned sink included; +inf where a query sees nothing."""
    tiles = tl.cdiv(T, M)
    tile = tiles - 1 - tl.program_id(0) % tiles
    head = tl.program_id(0) // tiles
    b = (head // H).to(tl.int64)
    h = head % H
    rows = tile * M + tl.arange(0, M)
    first = offset + tile * M
    last = tl.minimum(first + M, offset + T) - 1
    k_base = k_ptr + b * k_b + (h // GROUP) * k_h
    v_base = v_ptr + b * v_b + (h // GROUP) * v_h
    q = load_rows(q_ptr + b * q_b + h * q_h, tile * M, q_t, T, M, K, KP, True)
    slope = tl.load(slope_ptr + h).to(tl.float32) if ALIBI else 0.0
    ids_m = tl.load(ids_q_ptr + b * T + rows, mask=rows < T, other=-2) if SEGMENTS else rows
    ids_base = ids_k_ptr + b * S if SEGMENTS else 0
    acc = tl.zeros([M, VP], tl.float32)
    total = tl.zeros([M], tl.float32)
    peak = tl.full([M], float("-inf"), tl.float32)
    stop, low, core, end, high = key_ranges(first, last, S, size, sinks, dilation, KIND, CAUSAL, not SEGMENTS, N)
    for part in tl.static_range(4):
        begin = 0 if part == 0 else (low if part == 1 else (core if part == 2 else end))
        finish = stop if part == 0 else (core if part == 1 else (end if part == 2 else high))
        acc, total, peak = _sweep(
            acc, total, peak, q, k_base, v_base, k_t, v_t, ids_m, ids_base, first, last, begin, finish,
            S, size, sinks, dilation, period, scale, cap, slope,
            KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, V, KP, VP, M, N, part != 2, PRECISION,
        )  # fmt: skip
    if SINK:
        sink = tl.load(sink_ptr + h).to(tl.float32) * LOG2E
        higher = tl.maximum(peak, sink)
        fade = tl.exp2(peak - higher)
        acc = acc * fade[:, None]
        total = total * fade + tl.exp2(sink - higher)
        peak = higher
    blind = total == 0.0
    acc = acc / tl.where(blind, 1.0, total)[:, None]
    store_rows(o_ptr + b * o_b + h * o_h, acc, tile * M, o_t, T, M, V, VP)
    lse = tl.where(blind, float("inf"), (peak + tl.log2(tl.where(blind, 1.0, total))) / LOG2E)
    tl.store(lse_ptr + head.to(tl.int64) * T + rows, lse, mask=rows < T)
