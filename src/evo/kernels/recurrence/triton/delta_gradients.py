"""Gradients of the delta rule's queries and keys; chunks run in parallel, the scans over time being done.

With errors E, their equations' gradients dv, incoming states S, the gradients dS of those at the chunks' ends, and
D(t, s) what is left of step s at step t:
    dq_t = scale (D_t do_t S^T + sum_{s <= t} D(t, s) beta_s (do_t E_s) k_s)
    dk_t = -(D_t dv_t S^T + sum_{s < t} D(t, s) beta_s (dv_t E_s) k_s)                        as a reader
    dk_s = beta_s (D(end, s) E_s dS^T + sum_t D(t, s) ((do_t E_s) scale q_t - (dv_t E_s) k_t))  as a writer
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.chunk_scan import TOKEN, pair_decay, running_decay
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit
def state_rows(base, index, rows, cols, K: tl.constexpr, V: tl.constexpr):
    """A block of the `index`-th of many states (K, V), by first row and column: (ROWS, COLS) as `rows` and `cols`."""
    return tl.load(base + tl.cast(index, tl.int64) * (K * V) + (rows[:, None] * V + cols[None, :]))


@triton.jit
def inner_product(x, y, x_index, y_index, SIZE: tl.constexpr):
    """Of the matrix at `x_index` of many that lie one after another, of SIZE numbers each, and of that at `y_index`."""
    PIECE: tl.constexpr = min(SIZE, 1024)
    x += tl.cast(x_index, tl.int64) * SIZE
    y += tl.cast(y_index, tl.int64) * SIZE
    total = tl.zeros([PIECE], tl.float32)
    for i in tl.range(0, SIZE // PIECE):
        part = i * PIECE + tl.arange(0, PIECE)
        total += tl.load(x + part).to(tl.float32) * tl.load(y + part).to(tl.float32)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["T"])
def keys_back(
    q_ptr, k_ptr, do_ptr, dv_ptr, error_ptr, beta_ptr, decay_ptr, states_ptr, final_ptr, dstates_ptr,
    dq_ptr, dk_ptr, dbeta_ptr, ddecay_ptr, H, T, scale,
    DECAY: tl.constexpr, END: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KB: tl.constexpr, VB: tl.constexpr,
    C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq and dk (B, T, H, K); dbeta and, for decays per token, ddecay, (B, T, H) float32. All inputs are dense.

    A step's decay scales what was written before it and is read at it or later: of the pairs that this chunk's end
    divides the product of the state there and its gradient (with END for the last chunk too), of the others what the
    chunk's later steps read less what they wrote (see `token_decay`). Both sums round a pair of steps in the same way,
    so that those pairs which a decay does not part cancel.
    """
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    token = b * T * H + h
    of_query = tl.zeros([C, C], tl.float32)
    of_key = tl.zeros([C, C], tl.float32)
    for i in tl.range(0, V // VB):
        do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dv = load_rows(dv_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        error = load_rows(error_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        of_query = tl.dot(do, tl.trans(error), of_query, input_precision=PRECISION)
        of_key = tl.dot(dv, tl.trans(error), of_key, input_precision=PRECISION)
    short = q_ptr.dtype.element_ty
    rows = start + tl.arange(0, C)
    beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
    step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
    left = tl.exp2(upto)
    to_end = tl.exp2(tl.sum(step, 0) - upto)
    pairs = pair_decay(upto, upto, False, False, DECAY, C)
    later = tl.arange(0, C)[:, None] > tl.arange(0, C)[None, :]
    of_query *= pairs * scale
    of_key = tl.where(later, of_key * -pairs, 0.0)
    of_query = of_query.to(short)
    of_key = of_key.to(short)
    read = tl.zeros([C], tl.float32)
    dbeta = tl.zeros([C], tl.float32)
    written = tl.zeros([C], tl.float32)
    for block in tl.range(0, K // KB):
        deep = block * KB + tl.arange(0, KB)
        dq = tl.zeros([C, KB], tl.float32)
        dreader = tl.zeros([C, KB], tl.float32)
        dwriter = tl.zeros([C, KB], tl.float32)
        for i in tl.range(0, V // VB):
            do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
            dv = load_rows(dv_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
            error = load_rows(error_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
            state = state_rows(states_ptr, chunk, deep, i * VB + tl.arange(0, VB), K, V)
            dstate = state_rows(dstates_ptr, chunk, deep, i * VB + tl.arange(0, VB), K, V)
            dq = tl.dot(do, tl.trans(state), dq, input_precision=PRECISION)
            dreader = tl.dot(dv, tl.trans(state), dreader, input_precision=PRECISION)
            dwriter = tl.dot(error, tl.trans(dstate), dwriter, input_precision=PRECISION)
        at = token * K + block * KB
        k = load_rows(k_ptr + at, start, H * K, T, C, KB, KB, True)
        q = load_rows(q_ptr + at, start, H * K, T, C, KB, KB, True)
        write = (k.to(tl.float32) * beta[:, None]).to(short)
        dq = tl.dot(of_query, write, dq * (left * scale)[:, None], input_precision=PRECISION)
        dreader = tl.dot(of_key, write, dreader * -left[:, None], input_precision=PRECISION)
        dwriter = tl.dot(tl.trans(of_query), q, dwriter * to_end[:, None], input_precision=PRECISION)
        dwriter = tl.dot(tl.trans(of_key), k, dwriter, input_precision=PRECISION)
        read += tl.sum(dq * q.to(tl.float32) + dreader * k.to(tl.float32), 1)
        dbeta += tl.sum(dwriter * k.to(tl.float32), 1)
        if DECAY == TOKEN:
            written += tl.sum(dwriter * write.to(tl.float32), 1)
        store_rows(dq_ptr + at, dq, start, H * K, T, C, KB, KB)
        store_rows(dk_ptr + at, dreader + dwriter * beta[:, None], start, H * K, T, C, KB, KB)
    at = (b * T + rows) * H + h
    tl.store(dbeta_ptr + at, dbeta, mask=rows < T)
    if DECAY == TOKEN:
        ddecay = tl.cumsum(read - written, 0, reverse=True)
        if start + C < T:
            ddecay += inner_product(states_ptr, dstates_ptr, chunk + 1, chunk, K * V)
        elif END:
            ddecay += inner_product(final_ptr, dstates_ptr, head, chunk, K * V)
        tl.store(ddecay_ptr + at, ddecay, mask=rows < T)
