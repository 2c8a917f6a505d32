"""Backward attention: probabilities are made again from q, k and the log-sum-exp (FlashAttention-2, arXiv 2307.08691).

dq has one program a query tile; dk and dv one program a key tile, which also sums over the query heads of its group,
so that no atomics are needed and the same inputs give the same bytes.
"""

import triton
import triton.language as tl

from evo.kernels.attention.triton_tiles import (
    LOG2E,
    RING,
    key_ranges,
    query_ranges,
    raw_logits,
    ring_is_empty,
    seen,
)
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def output_dots(
    o_ptr, do_ptr, dlse_ptr, delta_ptr, o_b, o_t, o_h, do_b, do_t, do_h, H, T,
    V: tl.constexpr, VP: tl.constexpr, M: tl.constexpr, HAS_DLSE: tl.constexpr,
):  # fmt: skip
    """delta (B, H, T) = sum_V o do, less the gradient of the log-sum-exp."""
    tiles = tl.cdiv(T, M)
    head = tl.program_id(0) // tiles
    first = (tl.program_id(0) % tiles) * M
    rows = first + tl.arange(0, M)
    b = (head // H).to(tl.int64)
    h = head % H
    o = load_rows(o_ptr + b * o_b + h * o_h, first, o_t, T, M, V, VP, True).to(tl.float32)
    do = load_rows(do_ptr + b * do_b + h * do_h, first, do_t, T, M, V, VP, True).to(tl.float32)
    delta = tl.sum(o * do, 1)
    at = head.to(tl.int64) * T + rows
    if HAS_DLSE:
        delta -= tl.load(dlse_ptr + at, mask=rows < T, other=0.0)
    tl.store(delta_ptr + at, delta, mask=rows < T)


@triton.jit
def _gradients(
    q, k, do, v, lse2, delta, at_m, at_n, ids_m, ids_n, keys, size, sinks, dilation, period, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Probabilities p and gradients ds of q k^T (unscaled), in float32; (M, N), or (N, M) with all roles exchanged.

    `lse2` (log 2 units), `delta`, positions and ids come shaped to broadcast, (M, 1) and (1, N) or the other way.
    """
    x, steep, unit = raw_logits(q, k, at_m, at_n, scale, cap, slope, CAP, ALIBI, PRECISION)
    x = x * unit - lse2
    if MASKED:
        open_ = seen(at_m, at_n, keys, size, sinks, dilation, period, KIND, CAUSAL)
        if SEGMENTS:
            open_ = open_ & (ids_m == ids_n)
        x = tl.where(open_, x, float("-inf"))
    p = tl.exp2(x)
    dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
    return p, p * (dp - delta) * steep


@triton.jit
def _sweep_keys(
    dq, q, do, lse2, delta, k_base, v_base, k_stride, v_stride, ids_m, ids_base, first, last, start, stop,
    keys, size, sinks, dilation, period, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    at_m = first + tl.arange(0, M)[:, None]
    for n in tl.range(start, stop, N):
        n = tl.multiple_of(n, N)
        go = True
        if KIND == RING:
            go = not ring_is_empty(first, last, n, n + N - 1, sinks, size, period, CAUSAL)
        if go:
            rows = n + tl.arange(0, N)
            k = load_rows(k_base, n, k_stride, keys, N, K, KP, MASKED)
            v = load_rows(v_base, n, v_stride, keys, N, V, VP, MASKED)
            ids_n = tl.load(ids_base + rows, mask=rows < keys, other=-1) if SEGMENTS else rows
            _, ds = _gradients(
                q, k, do, v, lse2[:, None], delta[:, None], at_m, rows[None, :], ids_m[:, None], ids_n[None, :], keys,
                size, sinks, dilation, period, scale, cap, slope, KIND, CAUSAL, CAP, ALIBI, SEGMENTS, MASKED, PRECISION,
            )  # fmt: skip
            dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def query_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_ptr, delta_ptr, dq_ptr, slope_ptr, ids_q_ptr, ids_k_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, dq_b, dq_t, dq_h,
    H, T, S, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    SEGMENTS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq (B, T, H, K)."""
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
    do = load_rows(do_ptr + b * do_b + h * do_h, tile * M, do_t, T, M, V, VP, True)
    lse = tl.load(lse_ptr + head.to(tl.int64) * T + rows, mask=rows < T, other=float("inf"))
    delta = tl.load(delta_ptr + head.to(tl.int64) * T + rows, mask=rows < T, other=0.0)
    slope = tl.load(slope_ptr + h).to(tl.float32) if ALIBI else 0.0
    ids_m = tl.load(ids_q_ptr + b * T + rows, mask=rows < T, other=-2) if SEGMENTS else rows
    ids_base = ids_k_ptr + b * S if SEGMENTS else 0
    dq = tl.zeros([M, KP], tl.float32)
    stop, low, core, end, high = key_ranges(first, last, S, size, sinks, dilation, KIND, CAUSAL, not SEGMENTS, N)
    for part in tl.static_range(4):
        begin = 0 if part == 0 else (low if part == 1 else (core if part == 2 else end))
        finish = stop if part == 0 else (core if part == 1 else (end if part == 2 else high))
        dq = _sweep_keys(
            dq, q, do, lse * LOG2E, delta, k_base, v_base, k_t, v_t, ids_m, ids_base, first, last, begin, finish,
            S, size, sinks, dilation, period, scale, cap, slope,
            KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, V, KP, VP, M, N, part != 2, PRECISION,
        )  # fmt: skip
    store_rows(dq_ptr + b * dq_b + h * dq_h, dq * scale, tile * M, dq_t, T, M, K, KP)


@triton.jit
def _sweep_queries(
    dk, dv, k, v, q_base, do_base, lse_base, delta_base, q_stride, do_stride, ids_n, ids_base, first, last, start, stop,
    queries, keys, size, sinks, dilation, period, offset, scale, cap, slope,
    KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr, SEGMENTS: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    at_n = first + tl.arange(0, N)[:, None]
    for m in tl.range(start, stop, M):
        m = tl.multiple_of(m, M)
        go = True
        if KIND == RING:
            go = not ring_is_empty(offset + m, offset + m + M - 1, first, last, sinks, size, period, CAUSAL)
        if go:
            rows = m + tl.arange(0, M)
            q = load_rows(q_base, m, q_stride, queries, M, K, KP, MASKED)
            do = load_rows(do_base, m, do_stride, queries, M, V, VP, MASKED)
            lse2 = LOG2E * tl.load(lse_base + rows, mask=rows < queries, other=float("inf"))
            delta = tl.load(delta_base + rows, mask=rows < queries, other=0.0)
            ids_m = tl.load(ids_base + rows, mask=rows < queries, other=-2) if SEGMENTS else rows
            p, ds = _gradients(
                k, q, v, do, lse2[None, :], delta[None, :], offset + rows[None, :], at_n, ids_m[None, :],
                ids_n[:, None], keys, size, sinks, dilation, period, scale, cap, slope,
                KIND, CAUSAL, CAP, ALIBI, SEGMENTS, MASKED, PRECISION,
            )  # fmt: skip
            dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
            dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def key_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_ptr, delta_ptr, dk_ptr, dv_ptr, slope_ptr, ids_q_ptr, ids_k_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, dk_b, dk_t, dk_h, dv_b, dv_t, dv_h,
    H, T, S, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    SEGMENTS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk (B, S, G, K) and dv (B, S, G, V)."""
    tiles = tl.cdiv(S, N)
    tile = tl.program_id(0) % tiles
    g = (tl.program_id(0) // tiles) % (H // GROUP)
    b = (tl.program_id(0) // tiles // (H // GROUP)).to(tl.int64)
    first = tile * N
    last = tl.minimum(first + N, S) - 1
    rows = first + tl.arange(0, N)
    k = load_rows(k_ptr + b * k_b + g * k_h, first, k_t, S, N, K, KP, True)
    v = load_rows(v_ptr + b * v_b + g * v_h, first, v_t, S, N, V, VP, True)
    ids_n = tl.load(ids_k_ptr + b * S + rows, mask=rows < S, other=-1) if SEGMENTS else rows
    ids_base = ids_q_ptr + b * T if SEGMENTS else 0
    dk = tl.zeros([N, KP], tl.float32)
    dv = tl.zeros([N, VP], tl.float32)
    low, core, end, high = query_ranges(
        first, last, T, S, size, sinks, dilation, offset, KIND, CAUSAL, not SEGMENTS, M
    )  # fmt: skip
    for i in tl.range(0, GROUP):
        h = g * GROUP + i
        slope = tl.load(slope_ptr + h).to(tl.float32) if ALIBI else 0.0
        at = (b * H + h) * T
        for part in tl.static_range(3):
            begin = low if part == 0 else (core if part == 1 else end)
            finish = core if part == 0 else (end if part == 1 else high)
            dk, dv = _sweep_queries(
                dk, dv, k, v, q_ptr + b * q_b + h * q_h, do_ptr + b * do_b + h * do_h, lse_ptr + at, delta_ptr + at,
                q_t, do_t, ids_n, ids_base, first, last, begin, finish,
                T, S, size, sinks, dilation, period, offset, scale, cap, slope,
                KIND, CAUSAL, CAP, ALIBI, SEGMENTS, K, V, KP, VP, M, N, part != 1, PRECISION,
            )  # fmt: skip
    store_rows(dk_ptr + b * dk_b + g * dk_h, dk * scale, first, dk_t, S, N, K, KP)
    store_rows(dv_ptr + b * dv_b + g * dv_h, dv, first, dv_t, S, N, V, VP)
