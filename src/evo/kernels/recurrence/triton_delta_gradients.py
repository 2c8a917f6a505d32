"""Gradients of the delta rule's queries and keys; chunks run in parallel, the walks over time being done.

With errors E, their equations' gradients dv, incoming states S, the gradients dS of those at the chunks' ends, and
D(t, s) what is left of step s at step t:
    dq_t = scale (D_t do_t S^T + sum_{s <= t} D(t, s) beta_s (do_t E_s) k_s)
    dk_t = -(D_t dv_t S^T + sum_{s < t} D(t, s) beta_s (dv_t E_s) k_s)                        as a reader
    dk_s = beta_s (D(end, s) E_s dS^T + sum_t D(t, s) ((do_t E_s) scale q_t - (dv_t E_s) k_t))  as a writer
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton_walk import pair_decay, running_decay
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit
def state_rows(base, index, rows, cols, K: tl.constexpr, V: tl.constexpr):
    """A block of the `index`-th of many states (K, V), by first row and column: (ROWS, COLS) as `rows` and `cols`."""
    return tl.load(base + tl.cast(index, tl.int64) * (K * V) + (rows[:, None] * V + cols[None, :]))


@triton.jit(do_not_specialize=["T"])
def readers_back(
    q_ptr, k_ptr, do_ptr, dv_ptr, error_ptr, beta_ptr, decay_ptr, states_ptr, dq_ptr, dk_ptr, dots_ptr,
    H, T, heads_in_all, scale,
    DECAY: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KB: tl.constexpr, VB: tl.constexpr, C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dq and the readers' dk (B, T, H, K); dots (K blocks, B, H, T), q dq + k dk. All inputs are dense."""
    chunks = tl.cdiv(T, C)
    blocks: tl.constexpr = K // KB
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    start = (chunk % chunks) * C
    head = chunk // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    token = b * T * H + h
    deep = block * KB + tl.arange(0, KB)
    dq = tl.zeros([C, KB], tl.float32)
    dk = tl.zeros([C, KB], tl.float32)
    of_query = tl.zeros([C, C], tl.float32)
    of_key = tl.zeros([C, C], tl.float32)
    for i in tl.range(0, V // VB):
        state = state_rows(states_ptr, chunk, deep, i * VB + tl.arange(0, VB), K, V)
        do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dv = load_rows(dv_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        error = load_rows(error_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dq = tl.dot(do, tl.trans(state), dq, input_precision=PRECISION)
        dk = tl.dot(dv, tl.trans(state), dk, input_precision=PRECISION)
        of_query = tl.dot(do, tl.trans(error), of_query, input_precision=PRECISION)
        of_key = tl.dot(dv, tl.trans(error), of_key, input_precision=PRECISION)
    rows = start + tl.arange(0, C)
    beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
    _, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
    pairs = pair_decay(upto, upto, False, False, DECAY, C) * beta[None, :]
    later = tl.arange(0, C)[:, None] > tl.arange(0, C)[None, :]
    k = load_rows(k_ptr + token * K + block * KB, start, H * K, T, C, KB, KB, True)
    of_query = (of_query * pairs).to(k.dtype)
    of_key = tl.where(later, of_key * pairs, 0.0).to(k.dtype)
    left = tl.exp2(upto)[:, None]
    dq = tl.dot(of_query, k, dq * left, input_precision=PRECISION) * scale
    dk = -tl.dot(of_key, k, dk * left, input_precision=PRECISION)
    store_rows(dq_ptr + token * K + block * KB, dq, start, H * K, T, C, KB, KB)
    store_rows(dk_ptr + token * K + block * KB, dk, start, H * K, T, C, KB, KB)
    q = load_rows(q_ptr + token * K + block * KB, start, H * K, T, C, KB, KB, True)
    dots = tl.sum(dq * q.to(tl.float32) + dk * k.to(tl.float32), 1)
    tl.store(dots_ptr + (block * heads_in_all + head).to(tl.int64) * T + rows, dots, mask=rows < T)


@triton.jit(do_not_specialize=["T"])
def writers_back(
    q_ptr, k_ptr, do_ptr, dv_ptr, error_ptr, beta_ptr, decay_ptr, dstates_ptr, add_ptr, dk_ptr, dots_ptr,
    H, T, heads_in_all, scale,
    DECAY: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KB: tl.constexpr, VB: tl.constexpr, C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dk (B, T, H, K), `add` and what the writers add; dots (K blocks, B, H, T), the gradient of beta."""
    chunks = tl.cdiv(T, C)
    blocks: tl.constexpr = K // KB
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    start = (chunk % chunks) * C
    head = chunk // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    token = b * T * H + h
    deep = block * KB + tl.arange(0, KB)
    dk = tl.zeros([C, KB], tl.float32)
    of_query = tl.zeros([C, C], tl.float32)
    of_key = tl.zeros([C, C], tl.float32)
    for i in tl.range(0, V // VB):
        dstate = state_rows(dstates_ptr, chunk, deep, i * VB + tl.arange(0, VB), K, V)
        do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dv = load_rows(dv_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        error = load_rows(error_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dk = tl.dot(error, tl.trans(dstate), dk, input_precision=PRECISION)
        of_query = tl.dot(error, tl.trans(do), of_query, input_precision=PRECISION)
        of_key = tl.dot(error, tl.trans(dv), of_key, input_precision=PRECISION)
    rows = start + tl.arange(0, C)
    beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
    step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
    pairs = pair_decay(upto, upto, True, False, DECAY, C)
    later = tl.arange(0, C)[:, None] < tl.arange(0, C)[None, :]
    q = load_rows(q_ptr + token * K + block * KB, start, H * K, T, C, KB, KB, True)
    k = load_rows(k_ptr + token * K + block * KB, start, H * K, T, C, KB, KB, True)
    of_query = (of_query * pairs * scale).to(k.dtype)
    of_key = tl.where(later, of_key * -pairs, 0.0).to(k.dtype)
    dk = tl.dot(of_query, q, dk * tl.exp2(tl.sum(step, 0) - upto)[:, None], input_precision=PRECISION)
    dk = tl.dot(of_key, k, dk, input_precision=PRECISION)
    dots = tl.sum(dk * k.to(tl.float32), 1)
    tl.store(dots_ptr + (block * heads_in_all + head).to(tl.int64) * T + rows, dots, mask=rows < T)
    dk *= beta[:, None]
    dk += load_rows(add_ptr + token * K + block * KB, start, H * K, T, C, KB, KB, True).to(tl.float32)
    store_rows(dk_ptr + token * K + block * KB, dk, start, H * K, T, C, KB, KB)
