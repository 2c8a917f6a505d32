"""Gradients of queries, keys and log decays when every channel decays at its own rate; chunks run in parallel."""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.channel import (
    LOG2_RANGE,
    chunk_of,
    halves,
    load_steps,
    running,
    safe_level,
    same_block,
    summed,
    widest,
)
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit
def chunk_gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, decay_ptr, bonus_ptr, states_ptr, dstates_ptr, dq_ptr, dk_ptr, ddecay_ptr, dbonus_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, g_b, g_t, g_h, H, T, scale,
    b, h, start, number, first, STRONG: tl.constexpr, BONUS: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    KB: tl.constexpr, VP: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One chunk of `gradients`, in range or STRONG."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    deep = tl.arange(0, VP)[None, :]
    dtype: tl.constexpr = q_ptr.dtype.element_ty
    v = load_rows(v_ptr + b * v_b + h * v_h, start, v_t, T, C, V, VP, True)
    do = load_rows(do_ptr + b * do_b + h * do_h, start, do_t, T, C, V, VP, True)
    dscores = tl.dot(do, tl.trans(v), input_precision=PRECISION)
    own = tl.sum(tl.where(row == col, dscores, 0.0), 1)[:, None]
    dscores = widest(tl.where(row > col if BONUS else row >= col, dscores, 0.0), dtype)
    cols = first + tl.arange(0, KB)
    wide = K - first
    at = (number * K + cols[:, None]) * V + deep
    kept = (cols[:, None] < K) & (deep < V)
    state = tl.load(states_ptr + at, mask=kept, other=0.0)
    dstate = tl.load(dstates_ptr + at, mask=kept, other=0.0)
    passing = tl.sum(state.to(tl.float32) * dstate.to(tl.float32), 1)
    step = load_steps(decay_ptr + b * g_b + h * g_h + first, start, g_t, T, C, wide, KB)
    upto = tl.cumsum(step, 0)
    whole = tl.sum(step, 0)
    before = upto - step if BONUS else upto
    after = whole[None, :] - upto
    if STRONG:
        before = running(step, row, col, LEVELS, BONUS)
        after = summed(col > row, step)
    from_start = tl.exp2(before)
    to_end = tl.exp2(after)
    near = dscores
    if STRONG:
        level = safe_level(step, LEVELS)
        upto = running(step, row, col, level, False)
        before = running(step, row, col, level, BONUS)
        near = tl.where(same_block(row, col, level), dscores, 0.0)
    read = tl.exp2(before)
    write = tl.exp2(-upto)
    k = load_rows(k_ptr + b * k_b + h * k_h + first, start, k_t, T, C, wide, KB, True).to(tl.float32)
    dq = tl.dot(do, tl.trans(state), input_precision=PRECISION) * from_start
    dq += read * tl.dot(near, widest(k * write, dtype), input_precision=PRECISION)
    q = load_rows(q_ptr + b * q_b + h * q_h + first, start, q_t, T, C, wide, KB, True).to(tl.float32) * scale
    dk = tl.dot(v, tl.trans(dstate), input_precision=PRECISION) * to_end
    beyond = passing * tl.exp2(whole) + tl.sum(k * dk, 0)
    dk += write * tl.dot(tl.trans(near), widest(q * read, dtype), input_precision=PRECISION)
    if STRONG:
        for above in tl.range(level, LEVELS):
            late, early = halves(step, row, col, above, BONUS)
            near = tl.where(same_block(row, col, above + 1), dscores, 0.0)
            dq += late * tl.dot(near, (k * early).to(near.dtype), input_precision=PRECISION)
            dk += early * tl.dot(tl.trans(near), (q * late).to(near.dtype), input_precision=PRECISION)
    by_query = q * dq
    change = by_query - k * dk
    if BONUS:
        bonus = tl.load(bonus_ptr + h * K + cols, mask=cols < K, other=0.0).to(tl.float32)[None, :]
        dq += own * bonus * k
        dk += own * bonus * q
        tl.store(dbonus_ptr + number * K + cols, tl.sum(own * q * k, 0), mask=cols < K)
    base = (b * T * H + h) * K + first
    store_rows(dq_ptr + base, dq * scale, start, H * K, T, C, wide, KB)
    store_rows(dk_ptr + base, dk, start, H * K, T, C, wide, KB)
    change = tl.cumsum(change, 0, reverse=True) + beyond[None, :]
    if BONUS:
        change -= by_query
    store_rows(ddecay_ptr + base, change, start, H * K, T, C, wide, KB)


@triton.jit(do_not_specialize=["T"])
def gradients(
    q_ptr, k_ptr, v_ptr, do_ptr, decay_ptr, bonus_ptr, worst_ptr, states_ptr, dstates_ptr,
    dq_ptr, dk_ptr, ddecay_ptr, dbonus_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, g_b, g_t, g_h, H, T, scale,
    BONUS: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KB: tl.constexpr, VP: tl.constexpr,
    C: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq, dk and dlog_decay, dense (B, T, H, K), and dbonus (B, H, chunks, K), of a block of channels of a chunk.

    `states` enter the chunk, `dstates` are the gradients of those that leave it: both (B, H, chunks, K, V).
    A step's log decay scales all that was written before it and is read after it: the sum, from the step to the end,
    of q dq - k dk. What lies beyond the chunk adds the leaving state times its gradient.
    `worst` is that of `operands`: the chunks that it calls out of range have code of their own.
    """
    blocks: tl.constexpr = (K + KB - 1) // KB
    first = tl.program_id(0) % blocks * KB
    b, h, start, number = chunk_of(tl.program_id(0) // blocks, H, T, C)
    if tl.load(worst_ptr + number) >= -LOG2_RANGE:
        chunk_gradients(
            q_ptr, k_ptr, v_ptr, do_ptr, decay_ptr, bonus_ptr, states_ptr, dstates_ptr, dq_ptr, dk_ptr, ddecay_ptr,
            dbonus_ptr, q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, g_b, g_t, g_h, H, T, scale,
            b, h, start, number, first, False, BONUS, K, V, KB, VP, C, LEVELS, PRECISION,
        )  # fmt: skip
    else:
        chunk_gradients(
            q_ptr, k_ptr, v_ptr, do_ptr, decay_ptr, bonus_ptr, states_ptr, dstates_ptr, dq_ptr, dk_ptr, ddecay_ptr,
            dbonus_ptr, q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, do_b, do_t, do_h, g_b, g_t, g_h, H, T, scale,
            b, h, start, number, first, True, BONUS, K, V, KB, VP, C, LEVELS, PRECISION,
        )  # fmt: skip
