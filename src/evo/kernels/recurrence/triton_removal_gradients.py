"""Gradients of the generalised delta rule inside chunks; chunks run in parallel, the walks over time being done.

With X = a S + A_ak V, seen U = inverse X, and the gradients of o, U and the states known:
    dX = inverse^T dU          dV = A_qk^T dO + (inverse A_ak)^T dU + k dS'
    dA_qb = dO U^T   dA_qk = dO V^T   dA_ab = dX U^T   dA_ak = dX V^T
and q, k, a, b get what they gave to the scores, and to or from the state. SINGLE: X = a S + V, and there is no k.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton_delta import packed
from evo.kernels.recurrence.triton_removal import from_pivot, load_decay, rescaled, roles, state_block
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def values_back(
    do_ptr, v_ptr, seen_ptr, dseen_ptr, dstates_ptr, key_ptr, inverse_ptr, mixed_ptr, on_k_ptr,
    dv_ptr, dsolved_ptr, dq_on_b_ptr, dq_on_k_ptr, da_on_b_ptr, da_on_k_ptr, H, T,
    SINGLE: tl.constexpr, K: tl.constexpr, V: tl.constexpr, VB: tl.constexpr, C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dv (B, T, H, V), dX (B, H, chunks, C, V), and the gradients of all pairs' scores, four (B, H, chunks, C, C)."""
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    base = ((head // H).to(tl.int64) * T * H + head % H) * V
    square = packed(chunk, C, C)
    dq_on_b = tl.zeros([C, C], tl.float32)
    dq_on_k = tl.zeros([C, C], tl.float32)
    da_on_b = tl.zeros([C, C], tl.float32)
    da_on_k = tl.zeros([C, C], tl.float32)
    for block in tl.range(0, V // VB):
        do = load_rows(do_ptr + base + block * VB, start, H * V, T, C, VB, VB, True)
        seen = tl.load(seen_ptr + state_block(chunk, block, C, V, C, VB))
        dseen = tl.load(dseen_ptr + state_block(chunk, block, C, V, C, VB))
        dsolved = tl.dot(tl.trans(tl.load(inverse_ptr + square)), dseen, input_precision=PRECISION)
        dv = dsolved
        dsolved = dsolved.to(do.dtype)
        tl.store(dsolved_ptr + state_block(chunk, block, C, V, C, VB), dsolved)
        dq_on_b = tl.dot(do, tl.trans(seen), dq_on_b, input_precision=PRECISION)
        da_on_b = tl.dot(dsolved, tl.trans(seen), da_on_b, input_precision=PRECISION)
        if not SINGLE:
            v = load_rows(v_ptr + base + block * VB, start, H * V, T, C, VB, VB, True)
            dq_on_k = tl.dot(do, tl.trans(v), dq_on_k, input_precision=PRECISION)
            da_on_k = tl.dot(dsolved, tl.trans(v), da_on_k, input_precision=PRECISION)
            dstate = tl.load(dstates_ptr + state_block(chunk, block, K, V, K, VB))
            dv = tl.dot(tl.trans(tl.load(mixed_ptr + square)), dseen, input_precision=PRECISION)
            dv = tl.dot(tl.trans(tl.load(on_k_ptr + square)), do, dv, input_precision=PRECISION)
            dv = tl.dot(tl.load(key_ptr + packed(chunk, C, K)), dstate, dv, input_precision=PRECISION)
        store_rows(dv_ptr + base + block * VB, dv, start, H * V, T, C, VB, VB)
    short = dq_on_b_ptr.dtype.element_ty
    tl.store(dq_on_b_ptr + square, dq_on_b.to(short))
    tl.store(da_on_b_ptr + square, da_on_b.to(short))
    if not SINGLE:
        tl.store(dq_on_k_ptr + square, dq_on_k.to(short))
        tl.store(da_on_k_ptr + square, da_on_k.to(short))


@triton.jit
def own_pairs(dscores, C: tl.constexpr):
    """The diagonal of (C, C), as (C, 1) float32."""
    same = tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]
    return tl.sum(tl.where(same, dscores.to(tl.float32), 0.0), 1)[:, None]


@triton.jit(do_not_specialize=["T"])
def keys_back(
    q_ptr, k_ptr, a_ptr, b_ptr, decay_ptr, do_ptr, v_ptr, seen_ptr, dsolved_ptr, states_ptr, dstates_ptr,
    dq_on_b_ptr, dq_on_k_ptr, da_on_b_ptr, da_on_k_ptr, dq_ptr, dk_ptr, da_ptr, db_ptr, ddecay_ptr, H, T, scale,
    BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KB: tl.constexpr, VB: tl.constexpr,
    C: tl.constexpr, LEVELS: tl.constexpr, RANGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq, dk, da, db and the log decays' gradient, (B, T, H, K), for a block of channels of one chunk.

    A step's log decay scales what was written before it and is read after it: the sum, over the steps from it to the
    end of the chunk, of what was read less what was written, and beyond the chunk the state's own gradient.
    """
    chunks = tl.cdiv(T, C)
    blocks: tl.constexpr = K // KB
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    start = (chunk % chunks) * C
    head = chunk // chunks
    token = (head // H).to(tl.int64) * T * H + head % H
    base = token * K + block * KB
    dq = tl.zeros([C, KB], tl.float32)
    dk = tl.zeros([C, KB], tl.float32)
    da = tl.zeros([C, KB], tl.float32)
    db = tl.zeros([C, KB], tl.float32)
    tail = tl.zeros([KB], tl.float32)
    deep = block * KB + tl.arange(0, KB)[:, None]
    for i in tl.range(0, V // VB):
        inside = deep * V + i * VB + tl.arange(0, VB)[None, :]
        state_at = states_ptr + (head * (chunks + 1) + chunk % chunks).to(tl.int64) * (K * V) + inside
        state = tl.load(state_at)
        dstate = tl.load(dstates_ptr + chunk.to(tl.int64) * (K * V) + inside)
        tail += tl.sum(tl.load(state_at + K * V).to(tl.float32) * dstate.to(tl.float32), 1)
        do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        seen = tl.load(seen_ptr + state_block(chunk, i, C, V, C, VB))
        dsolved = tl.load(dsolved_ptr + state_block(chunk, i, C, V, C, VB))
        dq = tl.dot(do, tl.trans(state), dq, input_precision=PRECISION)
        da = tl.dot(dsolved, tl.trans(state), da, input_precision=PRECISION)
        db = tl.dot(seen, tl.trans(dstate), db, input_precision=PRECISION)
        if not SINGLE:
            v = load_rows(v_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
            dk = tl.dot(v, tl.trans(dstate), dk, input_precision=PRECISION)
    step, upto, whole = load_decay(decay_ptr + base, start, H, T, C, K, KB)
    own_q = step if BEFORE else 0.0
    own_a = 0.0 if SINGLE else step
    q = load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True)
    q = (q.to(tl.float32) * scale).to(q.dtype)
    a = load_rows(a_ptr + base, start, H * K, T, C, KB, KB, True)
    b = load_rows(b_ptr + base, start, H * K, T, C, KB, KB, True)
    k = b if SINGLE else load_rows(k_ptr + base, start, H * K, T, C, KB, KB, True)
    to_end = tl.exp2(whole[None, :] - upto)
    dq *= tl.exp2(upto - own_q)
    da *= tl.exp2(upto - own_a)
    db *= to_end
    dk *= to_end
    square = packed(chunk, C, C)
    dq_on_b = tl.load(dq_on_b_ptr + square)
    da_on_b = tl.load(da_on_b_ptr + square)
    dq_on_k = dq_on_b if SINGLE else tl.load(dq_on_k_ptr + square)
    da_on_k = da_on_b if SINGLE else tl.load(da_on_k_ptr + square)
    gentle = (tl.min(whole, 0) >= -RANGE).to(tl.int32)
    levels = gentle + (1 - gentle) * LEVELS
    for level in tl.range(0, levels):
        gap = from_pivot(upto, whole, level, gentle, C, KB)
        reads, writes, pairs = roles(level, gentle, C, LEVELS)
        back = gap * (1 - 2 * gentle)
        left_q = tl.exp2(tl.where(reads, gap - own_q, float("-inf")))
        left_a = tl.exp2(tl.where(reads, gap - own_a, float("-inf")))
        left_b = tl.exp2(tl.where(writes, back, float("-inf")))
        q_reads = rescaled(q, gap - own_q, reads)
        a_reads = rescaled(a, gap - own_a, reads)
        b_writes = rescaled(b, back, writes)
        q_b = tl.where(pairs, dq_on_b, 0.0).to(q.dtype)
        a_b = tl.where(pairs, da_on_b, 0.0).to(q.dtype)
        dq_near = tl.dot(q_b, b_writes, input_precision=PRECISION)
        da_near = tl.dot(a_b, b_writes, input_precision=PRECISION)
        db_near = tl.dot(tl.trans(q_b), q_reads, input_precision=PRECISION)
        db += left_b * tl.dot(tl.trans(a_b), a_reads, db_near, input_precision=PRECISION)
        if not SINGLE:
            k_writes = rescaled(k, back, writes)
            q_k = tl.where(pairs, dq_on_k, 0.0).to(q.dtype)
            a_k = tl.where(pairs, da_on_k, 0.0).to(q.dtype)
            dq_near = tl.dot(q_k, k_writes, dq_near, input_precision=PRECISION)
            da_near = tl.dot(a_k, k_writes, da_near, input_precision=PRECISION)
            dk_near = tl.dot(tl.trans(q_k), q_reads, input_precision=PRECISION)
            dk += left_b * tl.dot(tl.trans(a_k), a_reads, dk_near, input_precision=PRECISION)
        dq += left_q * dq_near
        da += left_a * da_near
    if not BEFORE:
        own = own_pairs(dq_on_b, C)
        dq += own * b.to(tl.float32)
        db += own * q.to(tl.float32)
        if not SINGLE:
            own = own_pairs(dq_on_k, C)
            dq += own * k.to(tl.float32)
            dk += own * q.to(tl.float32)
    by_query = q.to(tl.float32) * dq
    by_reader = a.to(tl.float32) * da
    change = by_query + by_reader - b.to(tl.float32) * db
    if not SINGLE:
        change -= k.to(tl.float32) * dk
    ddecay = tl.cumsum(change, 0, reverse=True) + tail[None, :]
    if BEFORE:
        ddecay -= by_query
    if not SINGLE:
        ddecay -= by_reader
        store_rows(dk_ptr + base, dk, start, H * K, T, C, KB, KB)
    store_rows(dq_ptr + base, dq * scale, start, H * K, T, C, KB, KB)
    store_rows(da_ptr + base, da, start, H * K, T, C, KB, KB)
    store_rows(db_ptr + base, db, start, H * K, T, C, KB, KB)
    store_rows(ddecay_ptr + base, ddecay, start, H * K, T, C, KB, KB)
