"""Backward attention: probabilities are made again from q, k and the log-sum-exp (FlashAttention-2, arXiv 2307.08691).

dq has one program a query tile; dk and dv one program a key tile, which also sums over the query heads of its group,
so that no atomics are needed and the same inputs give the same bytes. As in the forward, all tiles go through one loop.
The gradient of an additive bias is summed without atomics over the batches and heads that share it.
"""

import triton
import triton.language as tl

from evo.kernels.attention.triton.stencil_tiles import RING, ceil_to, key_ranges, query_ranges, ring_is_empty, seen
from evo.kernels.attention.triton.tile_ops import LOG2E, biases, dense_head, fetch, head_of, logits, query_tile
from evo.kernels.triton_rows import load_rows, store_rows

# Rows that share an origin where the slope is in their log-sum-exp; tiles of rows in `key_gradients` divide it.
STRIPE = tl.constexpr(64)


@triton.jit
def store_lse_delta(ptr, place, start, level, delta, T, M: tl.constexpr):
    """Write (level, delta) of rows start..start+M of head `place`; and (inf, 0) after row T, up to a whole stripe."""
    room = ceil_to(T, STRIPE)
    side = tl.arange(0, 2)[None, :]
    rows = start + tl.arange(0, M)[:, None]
    at = ptr + tl.cast(place, tl.int64) * room * 2 + (rows * 2 + side)
    tl.store(at, tl.join(level, delta), mask=(rows < room) & (side < 2))
    if start + M >= T:
        for m in tl.range(start + M, room, M):
            tl.store(at + (m - start) * 2, tl.where(side == 0, float("inf"), 0.0) + tl.zeros([M, 2], tl.float32))


@triton.jit
def lse_delta(ptr, place, m, T, M: tl.constexpr):
    """What `store_lse_delta` wrote of rows m..m+M of head `place`: log-sum-exp and delta, (M) each.

    One load of pairs: each thread makes a load of fewer elements than threads for itself, in dozens of instructions.
    """
    tl.static_assert(STRIPE % M == 0)
    rows = tl.arange(0, M)[:, None]
    at = ptr + (tl.cast(place, tl.int64) * ceil_to(T, STRIPE) + m) * 2
    return tl.split(tl.load(at + (rows * 2 + tl.arange(0, 2)[None, :])))


@triton.jit
def gradients(
    a, b, da, db, lse2, delta, at_m, at_n, ids_m, ids_n, bias, edge, alibi_bias, keys, size, sinks, dilation, period,
    scale, cap, slope,
    FORM: tl.constexpr,
):  # fmt: skip
    """Probabilities p, the gradient of the capped and biased logits, and that of a b^T (unscaled), in float32.

    (M, N) from a = q, b = k, da = do, db = v; or (N, M) with the roles of queries and keys exchanged. `lse2` (log 2
    units), `delta`, positions and ids come shaped to broadcast, (M, 1) and (1, N) or the other way.
    """
    x, logit_scale, cap_grad = logits(a, b, at_m, at_n, alibi_bias, scale, cap, slope, FORM)
    if FORM.BIAS:
        x = x * logit_scale + bias
        logit_scale = 1.0
    x = x * logit_scale - lse2
    if FORM.NO_MASK_TILES:
        if edge:
            x = tl.where(
                seen(at_m, at_n, keys, size, sinks, dilation, period, FORM.KIND, FORM.CAUSAL), x, float("-inf")
            )
    else:
        mask = seen(at_m, at_n, keys, size, sinks, dilation, period, FORM.KIND, FORM.CAUSAL)
        if FORM.SEGMENTS:
            mask = mask & (ids_m == ids_n)
        x = tl.where(mask, x, float("-inf"))
    p = tl.exp2(x)
    dp = tl.dot(da, tl.trans(db), input_precision=FORM.PRECISION)
    dx = p * (dp - delta)
    return p, dx, dx * cap_grad


@triton.jit
def _query_step(
    dq, dslope, q, do, lse2, delta, k_ptr, v_ptr, k_b, k_t, k_h, v_b, v_t, v_h, b, g, n, edge, at_m, ids_m, ids_ptr,
    bias_ptr, bias_t, bias_s, start, origin, alibi_biases, queries, keys, size, sinks, dilation, period, scale, cap,
    slope,
    FORM: tl.constexpr, DSLOPE: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Add what the key tile at n gives to dq and, row by row, to the gradient of the ALiBi slope."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    rows = n + tl.arange(0, N)
    k = fetch(k_ptr, b, n, g, k_b, k_t, k_h, keys, N, K, FORM.TMA)
    v = fetch(v_ptr, b, n, g, v_b, v_t, v_h, keys, N, V, FORM.TMA)
    ids_n = tl.load(ids_ptr + rows, mask=rows < keys, other=-1) if FORM.SEGMENTS else rows
    bias = 0.0
    if FORM.BIAS:
        far, near = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
        bias = biases(bias_ptr, start, n, far, near, queries, keys, bias_t, bias_s)
    _, dx, ds = gradients(
        q, k, do, v, lse2[:, None], delta[:, None], at_m, rows[None, :], ids_m[:, None], ids_n[None, :], bias, edge,
        (alibi_biases + slope * (n - origin))[None, :] if FORM.ALIBI_IN_LSE else 0.0,
        keys, size, sinks, dilation, period, scale, cap, slope, FORM,
    )  # fmt: skip
    if DSLOPE:
        dslope -= tl.sum(dx * tl.abs(at_m - rows[None, :]).to(tl.float32), 1)
    dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=FORM.PRECISION)
    return dq, dslope


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def query_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, o_ptr, lse_ptr, dlse_ptr, sink_ptr, slope_ptr, ids_q_ptr, ids_k_ptr, bias_ptr,
    dq_ptr, lse_delta_ptr, dsink_ptr, dslope_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h,
    bias_b, bias_h, bias_t, bias_s, H, T, S, size, sinks, dilation, period, offset, scale, cap,
    FORM: tl.constexpr, DLSE: tl.constexpr, DSINK: tl.constexpr, DSLOPE: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """dq (B, T, H, K); dsink and dslope (B, H, T), what each row adds to the gradients of the learned sink and of the
    slope; lse_delta (B, H, T up to a whole stripe, 2): the log-sum-exp in units of log 2, with slope (row % STRIPE)
    added if ALIBI_IN_LSE, and delta, which is sum_V o do less the gradient of the log-sum-exp."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    b, h, start, rows, first, last = query_tile(H, T, offset, M)
    at_m = (first + tl.arange(0, M))[:, None]
    q = fetch(q_ptr, b, start, h, q_b, q_t, q_h, T, M, K, FORM.TMA)
    do = fetch(do_ptr, b, start, h, do_b, do_t, do_h, T, M, V, FORM.TMA)
    o = load_rows(dense_head(o_ptr, b, h, T, H, V), start, H * V, T, M, V, V, True)
    at = tl.cast(b * H + h, tl.int64) * T + rows
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    if DLSE:
        delta -= tl.load(dlse_ptr + at, mask=rows < T, other=0.0)
    slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if FORM.ALIBI else 0.0
    lse2 = LOG2E * tl.load(lse_ptr + at, mask=rows < T, other=float("inf"))
    store_lse_delta(
        lse_delta_ptr, b * H + h, start, lse2 + slope * (rows % STRIPE) if FORM.ALIBI_IN_LSE else lse2, delta, T, M
    )
    if DSINK:
        share = tl.exp2(tl.load(sink_ptr + h).to(tl.float32) * LOG2E - lse2)
        tl.store(dsink_ptr + at, -share * delta, mask=rows < T)
    if FORM.ALIBI_IN_LSE:
        lse2 += slope * tl.arange(0, M)
    ids_m = tl.load(ids_q_ptr + tl.cast(b, tl.int64) * T + rows, mask=rows < T, other=-2) if FORM.SEGMENTS else rows
    ids_base = ids_k_ptr + tl.cast(b, tl.int64) * S if FORM.SEGMENTS else 0
    bias_base = head_of(bias_ptr, b, h, bias_b, bias_h) if FORM.BIAS else 0
    alibi_biases = slope * tl.arange(0, N)
    dq = tl.zeros([M, K], tl.float32)
    dslope = tl.zeros([M], tl.float32)
    stop, low, core, end, high = key_ranges(
        first, last, S, size, sinks, dilation, FORM.KIND, FORM.CAUSAL, FORM.NO_MASK_TILES, N
    )
    for i in tl.range(0, stop + high - low, N):
        n = tl.where(i < stop, i, i - stop + low)
        go = True
        if FORM.KIND == RING:
            go = not ring_is_empty(first, last, n, n + N - 1, sinks, size, period, FORM.CAUSAL)
        if go:
            dq, dslope = _query_step(
                dq, dslope, q, do, lse2, delta, k_ptr, v_ptr, k_b, k_t, k_h, v_b, v_t, v_h, b, h // FORM.GROUP, n,
                (n < core) | (n >= end), at_m, ids_m, ids_base, bias_base, bias_t, bias_s, start, first, alibi_biases,
                T, S, size, sinks, dilation, period, scale, cap, slope, FORM, DSLOPE, M, N,
            )  # fmt: skip
    store_rows(dense_head(dq_ptr, b, h, T, H, K), dq * scale, start, H * K, T, M, K, K)
    if DSLOPE:
        tl.store(dslope_ptr + at, dslope, mask=rows < T)


@triton.jit
def _key_step(
    dk, dv, k, v, q_ptr, do_ptr, q_b, q_t, q_h, do_b, do_t, do_h, lse_delta_ptr, slope_ptr, b, h, m, edge, at_n,
    ids_n, ids_ptr, bias_ptr, bias_b, bias_h, bias_t, bias_s, start, H, queries, keys, size, sinks, dilation, period,
    offset, scale, cap,
    FORM: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Add what the query tile at m of head h gives to dk and dv. Tiles of logits are (N, M) here."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    rows = m + tl.arange(0, M)
    q = fetch(q_ptr, b, m, h, q_b, q_t, q_h, queries, M, K, FORM.TMA)
    do = fetch(do_ptr, b, m, h, do_b, do_t, do_h, queries, M, V, FORM.TMA)
    slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if FORM.ALIBI else 0.0
    lse2, delta = lse_delta(lse_delta_ptr, b * H + h, m, queries, M)
    alibi_bias = slope * (tl.arange(0, N) + (start - offset - m // STRIPE * STRIPE))
    ids_m = tl.load(ids_ptr + rows, mask=rows < queries, other=-2) if FORM.SEGMENTS else rows
    bias = 0.0
    if FORM.BIAS:
        base = head_of(bias_ptr, b, h, bias_b, bias_h)
        far, near = tl.arange(0, M)[None, :], tl.arange(0, N)[:, None]
        bias = biases(base, m, start, far, near, queries, keys, bias_t, bias_s)
    p, _, ds = gradients(
        k, q, v, do, lse2[None, :], delta[None, :], (offset + rows)[None, :], at_n, ids_m[None, :], ids_n[:, None],
        bias, edge, alibi_bias[:, None] if FORM.ALIBI_IN_LSE else 0.0,
        keys, size, sinks, dilation, period, scale, cap, slope, FORM,
    )  # fmt: skip
    dv = tl.dot(p.to(do.dtype), do, dv, input_precision=FORM.PRECISION)
    dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=FORM.PRECISION)
    return dk, dv


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def key_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_delta_ptr, slope_ptr, ids_q_ptr, ids_k_ptr, bias_ptr, dk_ptr, dv_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h,
    bias_b, bias_h, bias_t, bias_s, H, T, S, size, sinks, dilation, period, offset, scale, cap,
    FORM: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """dk (B, S, G, K) and dv (B, S, G, V)."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    tiles = tl.cdiv(S, N)
    start = (tl.program_id(0) % tiles) * N
    g = (tl.program_id(0) // tiles) % (H // FORM.GROUP)
    b = tl.program_id(0) // tiles // (H // FORM.GROUP)
    last = tl.minimum(start + N, S) - 1
    rows = start + tl.arange(0, N)
    k = fetch(k_ptr, b, start, g, k_b, k_t, k_h, S, N, K, FORM.TMA)
    v = fetch(v_ptr, b, start, g, v_b, v_t, v_h, S, N, V, FORM.TMA)
    ids_n = tl.load(ids_k_ptr + tl.cast(b, tl.int64) * S + rows, mask=rows < S, other=-1) if FORM.SEGMENTS else rows
    ids_base = ids_q_ptr + tl.cast(b, tl.int64) * T if FORM.SEGMENTS else 0
    dk = tl.zeros([N, K], tl.float32)
    dv = tl.zeros([N, V], tl.float32)
    low, core, end, high = query_ranges(
        start, last, T, S, size, sinks, dilation, offset, FORM.KIND, FORM.CAUSAL, FORM.NO_MASK_TILES, M
    )
    tiles = tl.cdiv(tl.maximum(high - low, 0), M)
    for i in tl.range(0, FORM.GROUP * tiles):
        h = g if FORM.GROUP == 1 else g * FORM.GROUP + i // tiles
        m = low + (i if FORM.GROUP == 1 else i % tiles) * M
        go = True
        if FORM.KIND == RING:
            go = not ring_is_empty(offset + m, offset + m + M - 1, start, last, sinks, size, period, FORM.CAUSAL)
        if go:
            dk, dv = _key_step(
                dk, dv, k, v, q_ptr, do_ptr, q_b, q_t, q_h, do_b, do_t, do_h, lse_delta_ptr, slope_ptr, b, h, m,
                (m < core) | (m >= end), rows[:, None], ids_n, ids_base, bias_ptr, bias_b, bias_h, bias_t, bias_s,
                start, H, T, S, size, sinks, dilation, period, offset, scale, cap, FORM, M, N,
            )  # fmt: skip
    groups = H // FORM.GROUP
    store_rows(dense_head(dk_ptr, b, g, S, groups, K), dk * scale, start, groups * K, S, N, K, K)
    store_rows(dense_head(dv_ptr, b, g, S, groups, V), dv, start, groups * V, S, N, V, V)


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def bias_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, lse_delta_ptr, slope_ptr, ids_q_ptr, ids_k_ptr, bias_ptr, dbias_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h,
    bias_b, bias_h, bias_t, bias_s, BATCHES, HEADS, B, H, T, S, size, sinks, dilation, period, offset, scale, cap,
    FORM: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """dbias (BATCHES, HEADS, T, S) float32, dense; BATCHES is B or 1, HEADS is H or 1: the sizes of the bias."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    columns = tl.cdiv(S, N)
    tiles = tl.cdiv(T, M) * columns
    tile = tl.program_id(0) % tiles
    place = tl.program_id(0) // tiles
    m = tile // columns * M
    n = tile % columns * N
    first = offset + m
    rows_m = tl.arange(0, M)[:, None]
    rows_n = tl.arange(0, N)[None, :]
    out = tl.zeros([M, N], tl.float32)
    last = tl.minimum(first + M, offset + T) - 1
    stop, low, _core, _end, high = key_ranges(
        first, last, S, size, sinks, dilation, FORM.KIND, FORM.CAUSAL, False, N
    )  # fmt: skip
    shared = 0
    if (n < stop) | ((n >= low) & (n < high)):
        shared = (B // BATCHES) * (H // HEADS)
    for i in tl.range(0, shared):
        b = place // HEADS + i // (H // HEADS)
        h = place % HEADS + i % (H // HEADS)
        q = fetch(q_ptr, b, m, h, q_b, q_t, q_h, T, M, K, FORM.TMA)
        do = fetch(do_ptr, b, m, h, do_b, do_t, do_h, T, M, V, FORM.TMA)
        k = fetch(k_ptr, b, n, h // FORM.GROUP, k_b, k_t, k_h, S, N, K, FORM.TMA)
        v = fetch(v_ptr, b, n, h // FORM.GROUP, v_b, v_t, v_h, S, N, V, FORM.TMA)
        slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if FORM.ALIBI else 0.0
        lse2, delta = lse_delta(lse_delta_ptr, b * H + h, m, T, M)
        alibi_bias = slope * (n + rows_n - (offset + m // STRIPE * STRIPE))
        ids_m, ids_n = rows_m, rows_n
        if FORM.SEGMENTS:
            ids_m = tl.load(ids_q_ptr + tl.cast(b, tl.int64) * T + m + rows_m, mask=rows_m < T - m, other=-2)
            ids_n = tl.load(ids_k_ptr + tl.cast(b, tl.int64) * S + n + rows_n, mask=rows_n < S - n, other=-1)
        base = head_of(bias_ptr, b, h, bias_b, bias_h)
        _, dx, _ = gradients(
            q, k, do, v, lse2[:, None], delta[:, None], first + rows_m, n + rows_n, ids_m, ids_n,
            biases(base, m, n, rows_m, rows_n, T, S, bias_t, bias_s), True, alibi_bias,
            S, size, sinks, dilation, period, scale, cap, slope, FORM,
        )  # fmt: skip
        out += dx
    at = dbias_ptr + (tl.cast(place, tl.int64) * T + m) * S + n + (rows_m * S + rows_n)
    tl.store(at, out, mask=(rows_m < T - m) & (rows_n < S - n))
