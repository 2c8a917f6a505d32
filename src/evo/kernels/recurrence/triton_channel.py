"""Scores of a chunk when every channel decays at its own rate, and their gradients; chunks run in parallel.

A[t, s] = sum_k x[t, k] exp(G[t, k] - G[s, k]) y[s, k] is made by halves: a block of 2h tokens is two blocks of h and
the square between them, and that square is a matmul about the pivot where the first half ends. So only exponentials
of non-positive numbers are taken, and all the rest are matmuls.
"""

import triton
import triton.language as tl

from evo.kernels.triton_rows import load_rows, store_rows

LOG2E = tl.constexpr(1.4426950408889634)
LOG2_ZERO = tl.constexpr(-144.0)


@triton.jit
def halves(upto, upto_query, upto_base, stride, row, level, start, T, K: tl.constexpr, KP: tl.constexpr):
    """What is left of each token at the pivot of its block (early half), or of the pivot at the token (late half).

    Only rows beyond T, whose tokens are zero, could ask for more than all.
    """
    cols = tl.arange(0, KP)[None, :]
    pivot_row = ((row >> (level + 1)) << (level + 1)) + (1 << level) - 1
    pivot_row = tl.minimum(pivot_row, T - 1 - start)
    pivot = tl.load(upto_base + tl.cast(start, tl.int64) * stride + pivot_row * stride + cols, mask=cols < K, other=0.0)
    late = ((row >> level) & 1) == 1
    gap = tl.where(late, upto_query - pivot, pivot - upto)
    return tl.exp2(tl.minimum(gap, 0.0)), late


@triton.jit
def same_block(row, col, level):
    """Whether two tokens lie in the same block of 2 ** (level + 1)."""
    return (row >> (level + 1)) == (col >> (level + 1))


@triton.jit
def load_before(upto_base, start, stride, T, C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr):
    """The running decay up to the step before each row of the chunk, 0 at its first."""
    rows = tl.arange(0, C)[:, None]
    cols = tl.arange(0, KP)[None, :]
    at = upto_base + tl.cast(start, tl.int64) * stride + ((rows - 1) * stride + cols)
    return tl.load(at, mask=(rows > 0) & (rows < T - start) & (cols < K), other=0.0)


@triton.jit(do_not_specialize=["T"])
def scores(
    q_ptr, k_ptr, decay_ptr, bonus_ptr, upto_ptr, out_ptr, q_b, q_t, q_h, k_b, k_t, k_h, g_b, g_t, g_h, H, T,
    BONUS: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A (B, H, chunks, C, C), and upto (B, T, H, K): running log decays of each chunk in base 2, float32.

    With a bonus u a query reads the state before its own step, and the diagonal is sum_k q u k (RWKV-6).
    """
    chunks = tl.cdiv(T, C)
    start = (tl.program_id(0) % chunks) * C
    head = tl.program_id(0) // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
    k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
    step = load_rows(decay_ptr + b * g_b + h * g_h, start, g_t, T, C, K, KP, True).to(tl.float32)
    upto = tl.cumsum(tl.maximum(step * LOG2E, LOG2_ZERO), 0)
    upto_base = upto_ptr + (b * T * H + h) * K
    store_rows(upto_base, upto, start, H * K, T, C, K, KP)
    tl.debug_barrier()
    upto_query = upto
    product = q.to(tl.float32) * k.to(tl.float32)
    if BONUS:
        upto_query = load_before(upto_base, start, H * K, T, C, K, KP)
        cols = tl.arange(0, KP)
        product = product * tl.load(bonus_ptr + h * K + cols, mask=cols < K, other=0.0).to(tl.float32)[None, :]
    total = tl.where(row == col, tl.sum(product, 1)[:, None], 0.0)
    for level in tl.range(0, LEVELS):
        left, late = halves(upto, upto_query, upto_base, H * K, row, level, start, T, K, KP)
        q_late = tl.where(late, q.to(tl.float32) * left, 0.0).to(q.dtype)
        k_early = tl.where(late, 0.0, k.to(tl.float32) * left).to(k.dtype)
        square = tl.dot(q_late, tl.trans(k_early), input_precision=PRECISION)
        total += tl.where(same_block(row, col, level), square, 0.0)
    at = out_ptr + tl.program_id(0).to(tl.int64) * C * C + row * C + col
    tl.store(at, total.to(out_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["T"])
def score_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, upto_ptr, bonus_ptr, dq_ptr, dk_ptr, dbonus_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, dq_b, dq_t, dq_h, H, T, scale,
    BONUS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr,
    LEVELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The share of dq and dk (both with dq's strides) that stays inside a chunk, and dbonus (B, H, chunks, K)."""
    chunks = tl.cdiv(T, C)
    start = (tl.program_id(0) % chunks) * C
    head = tl.program_id(0) // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    v = load_rows(v_ptr + b * v_b + h * v_h, start, v_t, T, C, V, VP, True)
    do = load_rows(do_ptr + b * do_b + h * do_h, start, do_t, T, C, V, VP, True)
    dscores = tl.dot(do, tl.trans(v), input_precision=PRECISION) * scale
    own = tl.sum(tl.where(row == col, dscores, 0.0), 1)[:, None]
    q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
    k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
    upto_base = upto_ptr + (b * T * H + h) * K
    upto = load_rows(upto_base, start, H * K, T, C, K, KP, True)
    upto_query = upto
    dq = own * k.to(tl.float32)
    dk = own * q.to(tl.float32)
    if BONUS:
        upto_query = load_before(upto_base, start, H * K, T, C, K, KP)
        cols = tl.arange(0, KP)
        bonus = tl.load(bonus_ptr + h * K + cols, mask=cols < K, other=0.0).to(tl.float32)
        dbonus = tl.sum(dq * q.to(tl.float32), 0)
        tl.store(dbonus_ptr + tl.program_id(0).to(tl.int64) * K + cols, dbonus, mask=cols < K)
        dq = dq * bonus[None, :]
        dk = dk * bonus[None, :]
    for level in tl.range(0, LEVELS):
        left, late = halves(upto, upto_query, upto_base, H * K, row, level, start, T, K, KP)
        q_late = tl.where(late, q.to(tl.float32) * left, 0.0).to(q.dtype)
        k_early = tl.where(late, 0.0, k.to(tl.float32) * left).to(k.dtype)
        near = tl.where(same_block(row, col, level), dscores, 0.0).to(q.dtype)
        dq += tl.where(late, left, 0.0) * tl.dot(near, k_early, input_precision=PRECISION)
        dk += tl.where(late, 0.0, left) * tl.dot(tl.trans(near), q_late, input_precision=PRECISION)
    store_rows(dq_ptr + b * dq_b + h * dq_h, dq, start, dq_t, T, C, K, KP)
    store_rows(dk_ptr + b * dq_b + h * dq_h, dk, start, dq_t, T, C, K, KP)
