"""Plain causal attention of short sequences: few tiles a head, so what counts is launches, latency and occupancy.

One launch forward and one backward. A launch of the backward holds two kinds of programs, those of key tiles (dk, dv)
and those of query tiles (dq); each makes the probabilities anew (FlashAttention-2, arXiv 2307.08691), and the sums
delta = sum_K o do as well. No atomics: the same inputs give the same bytes.
"""

import triton
import triton.language as tl

from evo.kernels.triton_rows import load_rows, store_rows

TILE = tl.constexpr(64)


@triton.jit
def tile_and_head(index, heads):
    """The tile and the head of a program: all heads' first tile, then all heads' second."""
    return index // heads, index % heads


@triton.jit(do_not_specialize=["B", "T", "H"])
def short_forward(
    q_ptr, k_ptr, v_ptr, o_ptr, lse_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, B, T, H, scale2, GROUP: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, K) dense and the log-sum-exp in units of log 2, (B, H, T) float32. scale2: scale / log 2."""
    index, head = tile_and_head(tl.program_id(0), B * H)
    first = (tl.cdiv(T, TILE) - 1 - index) * TILE  # the longest first
    b, h = (head // H).to(tl.int64), head % H
    q = load_rows(q_ptr + b * q_b + h * q_h, first, q_t, T, TILE, K, K, True)
    k_base, v_base = k_ptr + b * k_b + (h // GROUP) * k_h, v_ptr + b * v_b + (h // GROUP) * v_h
    rows = first + tl.arange(0, TILE)
    row_max = tl.full((TILE,), float("-inf"), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    o = tl.zeros((TILE, K), tl.float32)
    for n in tl.range(0, first + TILE, TILE):
        k = load_rows(k_base, n, k_t, T, TILE, K, K, True)
        v = load_rows(v_base, n, v_t, T, TILE, K, K, True)
        x = tl.dot(q, tl.trans(k)) * scale2
        x = tl.where(rows[:, None] >= n + tl.arange(0, TILE)[None, :], x, float("-inf"))
        new = tl.maximum(row_max, tl.max(x, 1))
        p = tl.exp2(x - new[:, None])
        shrink = tl.exp2(row_max - new)
        total = total * shrink + tl.sum(p, 1)
        o = tl.dot(p.to(v.dtype), v, o * shrink[:, None])
        row_max = new
    store_rows(o_ptr + (b * T * H + h) * K, o / total[:, None], first, H * K, T, TILE, K, K)
    tl.store(lse_ptr + head.to(tl.int64) * T + rows, row_max + tl.log2(total), mask=rows < T)


@triton.jit
def _key_tile(
    first, b, g, q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, dk_ptr, dv_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, d_t, T, H, scale, scale2,
    GROUP: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dk and dv of the keys from `first` on, summed over the query heads of the group."""
    k = load_rows(k_ptr + b * k_b + g * k_h, first, k_t, T, TILE, K, K, True)
    v = load_rows(v_ptr + b * v_b + g * v_h, first, v_t, T, TILE, K, K, True)
    keys = first + tl.arange(0, TILE)[:, None]
    dk, dv = tl.zeros((TILE, K), tl.float32), tl.zeros((TILE, K), tl.float32)
    for i in range(GROUP):
        h = g * GROUP + i
        for m in tl.range(first, T, TILE):
            rows = m + tl.arange(0, TILE)
            o = load_rows(o_ptr + (b * T * H + h) * K, m, H * K, T, TILE, K, K, True)
            lse2 = tl.load(lse_ptr + (b * H + h) * T + rows, mask=rows < T, other=float("inf"))
            q = load_rows(q_ptr + b * q_b + h * q_h, m, q_t, T, TILE, K, K, True)
            do = load_rows(do_ptr + b * do_b + h * do_h, m, do_t, T, TILE, K, K, True)
            x = tl.dot(k, tl.trans(q)) * scale2 - lse2[None, :]
            p = tl.exp2(tl.where(rows[None, :] >= keys, x, float("-inf")))
            delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
            ds = p * (tl.dot(v, tl.trans(do)) - delta[None, :])
            dv = tl.dot(p.to(do.dtype), do, dv)
            dk = tl.dot(ds.to(q.dtype), q, dk)
    store_rows(dk_ptr + b * T * d_t + g * K, dk * scale, first, d_t, T, TILE, K, K)
    store_rows(dv_ptr + b * T * d_t + g * K, dv, first, d_t, T, TILE, K, K)


@triton.jit
def _query_tile(
    first, b, h, q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, dq_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, d_t, T, H, scale, scale2,
    GROUP: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dq of the queries from `first` on."""
    q = load_rows(q_ptr + b * q_b + h * q_h, first, q_t, T, TILE, K, K, True)
    do = load_rows(do_ptr + b * do_b + h * do_h, first, do_t, T, TILE, K, K, True)
    o = load_rows(o_ptr + (b * T * H + h) * K, first, H * K, T, TILE, K, K, True)
    rows = first + tl.arange(0, TILE)
    lse2 = tl.load(lse_ptr + (b * H + h) * T + rows, mask=rows < T, other=float("inf"))
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    k_base, v_base = k_ptr + b * k_b + (h // GROUP) * k_h, v_ptr + b * v_b + (h // GROUP) * v_h
    dq = tl.zeros((TILE, K), tl.float32)
    for n in tl.range(0, first + TILE, TILE):
        k = load_rows(k_base, n, k_t, T, TILE, K, K, True)
        v = load_rows(v_base, n, v_t, T, TILE, K, K, True)
        x = tl.dot(q, tl.trans(k)) * scale2 - lse2[:, None]
        p = tl.exp2(tl.where(rows[:, None] >= n + tl.arange(0, TILE)[None, :], x, float("-inf")))
        ds = p * (tl.dot(do, tl.trans(v)) - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq)
    store_rows(dq_ptr + b * T * d_t + h * K, dq * scale, first, d_t, T, TILE, K, K)


@triton.jit(do_not_specialize=["B", "T", "H"])
def short_backward(
    q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, dq_ptr, dk_ptr, dv_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, d_t, B, T, H, scale, scale2,
    GROUP: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """dq, dk and dv, dense heads in rows of tokens `d_t` apart. o is dense. The longest programs come first."""
    tiles = tl.cdiv(T, TILE)
    key_programs = tiles * B * (H // GROUP)
    if tl.program_id(0) < key_programs:
        index, head = tile_and_head(tl.program_id(0), B * (H // GROUP))
        _key_tile(
            index * TILE, (head // (H // GROUP)).to(tl.int64), head % (H // GROUP),
            q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, dk_ptr, dv_ptr,
            q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, d_t, T, H, scale, scale2, GROUP, K,
        )  # fmt: skip
    else:
        index, head = tile_and_head(tl.program_id(0) - key_programs, B * H)
        _query_tile(
            (tiles - 1 - index) * TILE, (head // H).to(tl.int64), head % H,
            q_ptr, k_ptr, v_ptr, o_ptr, do_ptr, lse_ptr, dq_ptr,
            q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, d_t, T, H, scale, scale2, GROUP, K,
        )  # fmt: skip
