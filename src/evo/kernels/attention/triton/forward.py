"""Forward attention: one program a query tile, online softmax over the key tiles that the stencil leaves.

All key tiles go through one loop, and only those on an edge of the stencil branch into the mask: with several loops
ptxas runs the tensor cores one instruction at a time.
"""

import triton
import triton.language as tl

from evo.kernels.attention.triton.stencil_tiles import RING, key_ranges, ring_is_empty, seen
from evo.kernels.attention.triton.tile_ops import LOG2E, biases, dense_head, fetch, head_of, logits, query_tile
from evo.kernels.triton_rows import store_rows


@triton.jit
def _fold(
    acc, total, row_max, q, k_ptr, v_ptr, k_b, k_t, k_h, v_b, v_t, v_h, b, g, n, edge, at_m, origin, alibi_biases,
    ids_m, ids_ptr, places_ptr, bias_ptr, bias_t, bias_s, start, queries, keys, size, sinks, dilation, period,
    scale, cap, slope,
    FORM: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Fold the key tile at n into the accumulator, the sum and the running maximum (log 2 units)."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    rows = n + tl.arange(0, N)
    at_n = rows
    limit = keys
    if FORM.PLACES:
        at_n = tl.load(places_ptr + rows, mask=rows < keys, other=-1).to(tl.int32)
        limit = 2**31 - 1
    k = fetch(k_ptr, b, n, g, k_b, k_t, k_h, keys, N, K, FORM.TMA)
    alibi_bias = slope * (at_n - origin) if FORM.PLACES else alibi_biases + slope * (n - origin)
    tile_bias = alibi_bias[None, :] if FORM.ALIBI_IN_LSE else 0.0
    x, logit_scale, _ = logits(q, k, at_m, at_n[None, :], tile_bias, scale, cap, slope, FORM)
    if FORM.BIAS:
        far, near = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
        x = x * logit_scale + biases(bias_ptr, start, n, far, near, queries, keys, bias_t, bias_s)
        logit_scale = 1.0
    if FORM.NO_MASK_TILES:
        if edge:
            mask = seen(at_m, at_n[None, :], limit, size, sinks, dilation, period, FORM.KIND, FORM.CAUSAL)
            x = tl.where(mask, x, float("-inf"))
    else:
        mask = seen(at_m, at_n[None, :], limit, size, sinks, dilation, period, FORM.KIND, FORM.CAUSAL)
        if FORM.PLACES:
            mask = mask & (at_n >= 0)[None, :]
        if FORM.SEGMENTS:
            mask = mask & (ids_m[:, None] == tl.load(ids_ptr + rows, mask=rows < keys, other=-1)[None, :])
        x = tl.where(mask, x, float("-inf"))
    higher = tl.maximum(row_max, tl.max(x, 1) * logit_scale)
    level = tl.where(higher == float("-inf"), 0.0, higher)
    p = tl.exp2(x * logit_scale - level[:, None])
    fade = tl.exp2(row_max - level)
    total = total * fade + tl.sum(p, 1)
    v = fetch(v_ptr, b, n, g, v_b, v_t, v_h, keys, N, V, FORM.TMA)
    acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision=FORM.PRECISION)
    return acc, total, higher


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def forward(
    q_ptr, k_ptr, v_ptr, sink_ptr, slope_ptr, ids_q_ptr, ids_k_ptr, places_ptr, bias_ptr, o_ptr, lse_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, bias_b, bias_h, bias_t, bias_s,
    H, T, S, size, sinks, dilation, period, offset, scale, cap,
    FORM: tl.constexpr, SINK: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, V) and lse (B, H, T), natural log, the learned sink included; +inf where a query sees nothing."""
    K: tl.constexpr = FORM.K
    V: tl.constexpr = FORM.V
    b, h, start, rows, first, last = query_tile(H, T, offset, M)
    at_m = (first + tl.arange(0, M))[:, None]
    q = fetch(q_ptr, b, start, h, q_b, q_t, q_h, T, M, K, FORM.TMA)
    slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if FORM.ALIBI else 0.0
    ids_m = tl.load(ids_q_ptr + tl.cast(b, tl.int64) * T + rows, mask=rows < T, other=-2) if FORM.SEGMENTS else rows
    ids_base = ids_k_ptr + tl.cast(b, tl.int64) * S if FORM.SEGMENTS else 0
    bias_base = head_of(bias_ptr, b, h, bias_b, bias_h) if FORM.BIAS else 0
    alibi_biases = slope * tl.arange(0, N)
    acc = tl.zeros([M, V], tl.float32)
    total = tl.zeros([M], tl.float32)
    row_max = tl.full([M], float("-inf"), tl.float32)
    stop, low, core, end, high = key_ranges(
        first, last, S, size, sinks, dilation, FORM.KIND, FORM.CAUSAL, FORM.NO_MASK_TILES, N
    )
    if FORM.PLACES:
        stop, low, high = 0, 0, S
    for i in tl.range(0, stop + high - low, N):
        n = tl.where(i < stop, i, i - stop + low)
        go = True
        if FORM.KIND == RING and not FORM.PLACES:
            go = not ring_is_empty(first, last, n, n + N - 1, sinks, size, period, FORM.CAUSAL)
        if go:
            acc, total, row_max = _fold(
                acc, total, row_max, q, k_ptr, v_ptr, k_b, k_t, k_h, v_b, v_t, v_h, b, h // FORM.GROUP, n,
                (n < core) | (n >= end), at_m, first, alibi_biases, ids_m, ids_base, places_ptr, bias_base, bias_t,
                bias_s, start, T, S, size, sinks, dilation, period, scale, cap, slope, FORM, M, N,
            )  # fmt: skip
    shift = slope * tl.arange(0, M) if FORM.ALIBI_IN_LSE else tl.zeros([M], tl.float32)
    fade = tl.full([M], 1.0, tl.float32)
    if SINK:
        sink = tl.load(sink_ptr + h).to(tl.float32) * LOG2E + shift
        higher = tl.maximum(row_max, sink)
        fade = tl.exp2(row_max - higher)
        total = total * fade + tl.exp2(sink - higher)
        row_max = higher
    blind = total == 0.0
    acc = acc * (fade / tl.where(blind, 1.0, total))[:, None]
    store_rows(dense_head(o_ptr, b, h, T, H, V), acc, start, H * V, T, M, V, V)
    lse = tl.where(blind, float("inf"), (row_max - shift + tl.log2(tl.where(blind, 1.0, total))) / LOG2E)
    tl.store(lse_ptr + tl.cast(b * H + h, tl.int64) * T + rows, lse, mask=rows < T)
