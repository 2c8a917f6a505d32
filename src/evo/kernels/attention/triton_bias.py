"""The gradient of an additive bias, summed without atomics over the batches and heads that share it."""

import triton
import triton.language as tl

from evo.kernels.attention.triton_backward import STRIPE, gradients, levels
from evo.kernels.attention.triton_reads import LOG2E, biases, fetch, head_of
from evo.kernels.attention.triton_tiles import key_ranges


@triton.jit(do_not_specialize=["T", "S", "size", "sinks", "dilation", "period", "offset"])
def bias_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, levels_ptr, slope_ptr, ids_q_ptr, ids_k_ptr, bias_ptr, dbias_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h,
    bias_b, bias_h, bias_t, bias_s, BATCHES, HEADS, B, H, T, S, size, sinks, dilation, period, offset, scale, cap,
    GROUP: tl.constexpr, KIND: tl.constexpr, CAUSAL: tl.constexpr, CAP: tl.constexpr, ALIBI: tl.constexpr,
    FOLDED: tl.constexpr, SEGMENTS: tl.constexpr, BIAS: tl.constexpr, FREE: tl.constexpr,
    K: tl.constexpr, V: tl.constexpr, M: tl.constexpr, N: tl.constexpr, DESCRIBED: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dbias (BATCHES, HEADS, T, S) float32, dense; BATCHES is B or 1, HEADS is H or 1: the sizes of the bias."""
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
        first, last, S, size, sinks, dilation, KIND, CAUSAL, False, N
    )  # fmt: skip
    shared = 0
    if (n < stop) | ((n >= low) & (n < high)):
        shared = (B // BATCHES) * (H // HEADS)
    for i in tl.range(0, shared):
        b = place // HEADS + i // (H // HEADS)
        h = place % HEADS + i % (H // HEADS)
        q = fetch(q_ptr, b, m, h, q_b, q_t, q_h, T, M, K, DESCRIBED)
        do = fetch(do_ptr, b, m, h, do_b, do_t, do_h, T, M, V, DESCRIBED)
        k = fetch(k_ptr, b, n, h // GROUP, k_b, k_t, k_h, S, N, K, DESCRIBED)
        v = fetch(v_ptr, b, n, h // GROUP, v_b, v_t, v_h, S, N, V, DESCRIBED)
        slope = tl.load(slope_ptr + h).to(tl.float32) * LOG2E if ALIBI else 0.0
        lse2, delta = levels(levels_ptr, b * H + h, m, T, M)
        tilt = slope * (n + rows_n - (offset + m // STRIPE * STRIPE))
        ids_m, ids_n = rows_m, rows_n
        if SEGMENTS:
            ids_m = tl.load(ids_q_ptr + tl.cast(b, tl.int64) * T + m + rows_m, mask=rows_m < T - m, other=-2)
            ids_n = tl.load(ids_k_ptr + tl.cast(b, tl.int64) * S + n + rows_n, mask=rows_n < S - n, other=-1)
        base = head_of(bias_ptr, b, h, bias_b, bias_h)
        _, dx, _ = gradients(
            q, k, do, v, lse2[:, None], delta[:, None], first + rows_m, n + rows_n, ids_m, ids_n,
            biases(base, m, n, rows_m, rows_n, T, S, bias_t, bias_s), True, tilt,
            S, size, sinks, dilation, period, scale, cap, slope,
            KIND, CAUSAL, CAP, ALIBI, FOLDED, SEGMENTS, BIAS, False, PRECISION,
        )  # fmt: skip
        out += dx
    at = dbias_ptr + (tl.cast(place, tl.int64) * T + m) * S + n + (rows_m * S + rows_n)
    tl.store(at, out, mask=(rows_m < T - m) & (rows_n < S - n))
