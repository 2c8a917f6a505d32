"""Gradients of the generalised delta rule inside chunks; chunks run in parallel, the scans over time being done.

With X = a S + A_ak V, seen U = inverse X, and the gradients of o, U and the states known:
    dX = inverse^T dU          dV = A_qk^T dO + (inverse A_ak)^T dU + k dS'
    dA_qb = dO U^T   dA_qk = dO V^T   dA_ab = dX U^T   dA_ak = dX V^T
and q, k, a, b get what they gave to the scores, and to or from the state. SINGLE: X = a S + V,
and k gets what a = -k and b = beta k would.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.delta import packed
from evo.kernels.recurrence.triton.dplr_chunk import (
    column_block,
    decayed,
    is_gentle,
    load_beta,
    load_dplr,
    load_pivot,
    load_upto,
    load_whole,
    rescaled,
    roles,
    seen_pairs,
)
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit(do_not_specialize=["T"])
def values_back(
    do_ptr, v_ptr, seen_ptr, dseen_ptr, dstates_ptr, key_ptr, inverse_ptr, mixed_ptr, on_k_ptr,
    dv_ptr, dsolved_ptr, dq_on_b_ptr, dq_on_k_ptr, da_on_b_ptr, da_on_k_ptr, H, T,
    BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, V: tl.constexpr, VB: tl.constexpr,
    C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dv (B, T, H, V), dX (B, H, chunks, C, V), and the gradients of all pairs' scores, four (B, H, chunks, C, C)."""
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    base = ((head // H).to(tl.int64) * T * H + head % H) * V
    dq_on_b = tl.zeros([C, C], tl.float32)
    dq_on_k = tl.zeros([C, C], tl.float32)
    da_on_b = tl.zeros([C, C], tl.float32)
    da_on_k = tl.zeros([C, C], tl.float32)
    for block in tl.range(0, V // VB):
        do = load_rows(do_ptr + base + block * VB, start, H * V, T, C, VB, VB, True)
        seen = tl.load(column_block(seen_ptr, chunk, block, C, V, C, VB))
        dseen = tl.load(column_block(dseen_ptr, chunk, block, C, V, C, VB))
        dsolved = tl.dot(tl.trans(tl.load(packed(inverse_ptr, chunk, C, C))), dseen, input_precision=PRECISION)
        dv = dsolved
        dsolved = dsolved.to(do.dtype)
        tl.store(column_block(dsolved_ptr, chunk, block, C, V, C, VB), dsolved)
        dq_on_b = tl.dot(do, tl.trans(seen), dq_on_b, input_precision=PRECISION)
        da_on_b = tl.dot(dsolved, tl.trans(seen), da_on_b, input_precision=PRECISION)
        if not SINGLE:
            v = load_rows(v_ptr + base + block * VB, start, H * V, T, C, VB, VB, True)
            dq_on_k = tl.dot(do, tl.trans(v), dq_on_k, input_precision=PRECISION)
            da_on_k = tl.dot(dsolved, tl.trans(v), da_on_k, input_precision=PRECISION)
            dstate = tl.load(column_block(dstates_ptr, chunk, block, K, V, K, VB))
            dv = tl.dot(tl.trans(tl.load(packed(mixed_ptr, chunk, C, C))), dseen, input_precision=PRECISION)
            dv = tl.dot(tl.trans(tl.load(packed(on_k_ptr, chunk, C, C))), do, dv, input_precision=PRECISION)
            dv = tl.dot(tl.load(packed(key_ptr, chunk, C, K)), dstate, dv, input_precision=PRECISION)
        store_rows(dv_ptr + base + block * VB, dv, start, H * V, T, C, VB, VB)
    short = dq_on_b_ptr.dtype.element_ty
    seen_q = seen_pairs(C, not BEFORE)
    seen_a = seen_pairs(C, False)
    tl.store(packed(dq_on_b_ptr, chunk, C, C), tl.where(seen_q, dq_on_b, 0.0).to(short))
    tl.store(packed(da_on_b_ptr, chunk, C, C), tl.where(seen_a, da_on_b, 0.0).to(short))
    if not SINGLE:
        tl.store(packed(dq_on_k_ptr, chunk, C, C), tl.where(seen_q, dq_on_k, 0.0).to(short))
        tl.store(packed(da_on_k_ptr, chunk, C, C), tl.where(seen_a, da_on_k, 0.0).to(short))


@triton.jit
def own_pairs(dscores, C: tl.constexpr):
    """The diagonal of (C, C), as (C, 1) float32."""
    same = tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]
    return tl.sum(tl.where(same, dscores.to(tl.float32), 0.0), 1)[:, None]


@triton.jit
def near(dscores_at, pairs):
    """Scores' gradients (C, C) of those pairs, 0 elsewhere."""
    found = tl.load(dscores_at)
    return tl.where(pairs, found, tl.zeros_like(found))


@triton.jit(do_not_specialize=["T"])
def readers_back(
    q_ptr, k_ptr, a_ptr, b_ptr, beta_ptr, upto_ptr, do_ptr, dsolved_ptr, states_ptr,
    dq_on_b_ptr, dq_on_k_ptr, da_on_b_ptr, da_on_k_ptr, dq_ptr, da_ptr, read_ptr, H, T, scale,
    GENTLE: tl.constexpr, BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    KB: tl.constexpr, VB: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, RANGE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dq, da and what was read, q dq + a da in float32, all (B, T, H, K), for a block of channels of one chunk."""
    chunks = tl.cdiv(T, C)
    chunk, block = tl.program_id(0) // (K // KB), tl.program_id(0) % (K // KB)
    start, head = (chunk % chunks) * C, chunk // chunks
    token = (head // H).to(tl.int64) * T * H + head % H
    base = token * K + block * KB
    upto_at = upto_ptr + chunk.to(tl.int64) * (C * K) + block * KB
    if is_gentle(upto_at, RANGE, C, K, KB) != GENTLE:
        return
    deep = block * KB + tl.arange(0, KB)[:, None]
    states_ptr += (head * (chunks + 1) + chunk % chunks).to(tl.int64) * (K * V)
    dq = tl.zeros([C, KB], tl.float32)
    da = tl.zeros([C, KB], tl.float32)
    for i in tl.range(0, V // VB):
        state = tl.load(states_ptr + deep * V + (i * VB + tl.arange(0, VB)[None, :]))
        do = load_rows(do_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
        dsolved = tl.load(column_block(dsolved_ptr, chunk, i, C, V, C, VB))
        dq = tl.dot(do, tl.trans(state), dq, input_precision=PRECISION)
        da = tl.dot(dsolved, tl.trans(state), da, input_precision=PRECISION)
    beta = load_beta(beta_ptr, head, start, H, T, SINGLE, C)
    k, _, b = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
    dq_on_b_at = packed(dq_on_b_ptr, chunk, C, C)
    dq_on_k_at = packed(dq_on_k_ptr, chunk, C, C)
    da_on_b_at = packed(da_on_b_ptr, chunk, C, C)
    da_on_k_at = packed(da_on_k_ptr, chunk, C, C)
    if GENTLE:
        pivot = 0.5 * load_whole(upto_at, C, K, KB)
        written = tl.exp2(pivot - load_upto(upto_at, False, C, K, KB))
        b_writes = rescaled(b, written)
        dq = tl.dot(tl.load(dq_on_b_at), b_writes, dq * tl.exp2(pivot), input_precision=PRECISION)
        da = tl.dot(tl.load(da_on_b_at), b_writes, da * tl.exp2(pivot), input_precision=PRECISION)
        if not SINGLE:
            k_writes = rescaled(k, written)
            dq = tl.dot(tl.load(dq_on_k_at), k_writes, dq, input_precision=PRECISION)
            da = tl.dot(tl.load(da_on_k_at), k_writes, da, input_precision=PRECISION)
        dq *= tl.exp2(load_upto(upto_at, BEFORE, C, K, KB) - pivot)
        da *= tl.exp2(load_upto(upto_at, not SINGLE, C, K, KB) - pivot)
    else:
        dq *= tl.exp2(load_upto(upto_at, BEFORE, C, K, KB))
        da *= tl.exp2(load_upto(upto_at, not SINGLE, C, K, KB))
        for level in tl.range(0, LEVELS):
            reads, writes, pairs = roles(level, C)
            pivot = load_pivot(upto_at, level, C, K, KB)
            written = decayed(pivot - load_upto(upto_at, False, C, K, KB), writes)
            b_writes = rescaled(b, written)
            dq_near = tl.dot(near(dq_on_b_at, pairs), b_writes, input_precision=PRECISION)
            da_near = tl.dot(near(da_on_b_at, pairs), b_writes, input_precision=PRECISION)
            if not SINGLE:
                k_writes = rescaled(k, written)
                dq_near = tl.dot(near(dq_on_k_at, pairs), k_writes, dq_near, input_precision=PRECISION)
                da_near = tl.dot(near(da_on_k_at, pairs), k_writes, da_near, input_precision=PRECISION)
            dq += dq_near * decayed(load_upto(upto_at, BEFORE, C, K, KB) - pivot, reads)
            da += da_near * decayed(load_upto(upto_at, not SINGLE, C, K, KB) - pivot, reads)
        if not BEFORE:
            dq += own_pairs(tl.load(dq_on_b_at), C) * b.to(tl.float32)
            if not SINGLE:
                dq += own_pairs(tl.load(dq_on_k_at), C) * k.to(tl.float32)
    dq *= scale
    store_rows(dq_ptr + base, dq, start, H * K, T, C, KB, KB)
    store_rows(da_ptr + base, da, start, H * K, T, C, KB, KB)
    q = load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True)
    _, a, _ = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
    read = dq * q.to(tl.float32) + da * a.to(tl.float32)
    store_rows(read_ptr + base, read, start, H * K, T, C, KB, KB)


@triton.jit(do_not_specialize=["T"])
def writers_back(
    q_ptr, k_ptr, a_ptr, b_ptr, beta_ptr, upto_ptr, v_ptr, seen_ptr, states_ptr, dstates_ptr,
    dq_on_b_ptr, dq_on_k_ptr, da_on_b_ptr, da_on_k_ptr, dq_ptr, da_ptr, dk_ptr, db_ptr, dbeta_ptr, ddecay_ptr,
    H, T, scale,
    GENTLE: tl.constexpr, BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    KB: tl.constexpr, VB: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr, RANGE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dk, db and the log decays' gradient, (B, T, H, K), for a block of channels of one chunk. SINGLE: dk, which holds
    da before, without db, and dbeta (K blocks, B, T, H) float32.

    A step's log decay scales what was written before it and is read after it: the sum, over the steps from it to the
    end of the chunk, of what was read (which `ddecay` holds before) less what was written, and beyond the chunk the
    state's own gradient.
    """
    chunks = tl.cdiv(T, C)
    chunk, block = tl.program_id(0) // (K // KB), tl.program_id(0) % (K // KB)
    start, head = (chunk % chunks) * C, chunk // chunks
    token = (head // H).to(tl.int64) * T * H + head % H
    base = token * K + block * KB
    upto_at = upto_ptr + chunk.to(tl.int64) * (C * K) + block * KB
    if is_gentle(upto_at, RANGE, C, K, KB) != GENTLE:
        return
    deep = block * KB + tl.arange(0, KB)[:, None]
    ends_ptr = states_ptr + (head * (chunks + 1) + chunk % chunks + 1).to(tl.int64) * (K * V)
    dstates_ptr += chunk.to(tl.int64) * (K * V)
    db = tl.zeros([C, KB], tl.float32)
    dk = tl.zeros([C, KB], tl.float32)
    tail = tl.zeros([KB], tl.float32)
    for i in tl.range(0, V // VB):
        inside = deep * V + (i * VB + tl.arange(0, VB)[None, :])
        dstate = tl.load(dstates_ptr + inside)
        tail += tl.sum(tl.load(ends_ptr + inside).to(tl.float32) * dstate.to(tl.float32), 1)
        seen = tl.load(column_block(seen_ptr, chunk, i, C, V, C, VB))
        db = tl.dot(seen, tl.trans(dstate), db, input_precision=PRECISION)
        if not SINGLE:
            v = load_rows(v_ptr + token * V + i * VB, start, H * V, T, C, VB, VB, True)
            dk = tl.dot(v, tl.trans(dstate), dk, input_precision=PRECISION)
    q = rescaled(load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True), scale)
    beta = load_beta(beta_ptr, head, start, H, T, SINGLE, C)
    _, a, _ = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
    dq_on_b_at = packed(dq_on_b_ptr, chunk, C, C)
    dq_on_k_at = packed(dq_on_k_ptr, chunk, C, C)
    da_on_b_at = packed(da_on_b_ptr, chunk, C, C)
    da_on_k_at = packed(da_on_k_ptr, chunk, C, C)
    if GENTLE:
        pivot = 0.5 * load_whole(upto_at, C, K, KB)
        q_reads = rescaled(q, tl.exp2(load_upto(upto_at, BEFORE, C, K, KB) - pivot))
        a_reads = rescaled(a, tl.exp2(load_upto(upto_at, not SINGLE, C, K, KB) - pivot))
        db = tl.dot(tl.trans(tl.load(dq_on_b_at)), q_reads, db * tl.exp2(pivot), input_precision=PRECISION)
        db = tl.dot(tl.trans(tl.load(da_on_b_at)), a_reads, db, input_precision=PRECISION)
        written = tl.exp2(pivot - load_upto(upto_at, False, C, K, KB))
        db *= written
        if not SINGLE:
            dk = tl.dot(tl.trans(tl.load(dq_on_k_at)), q_reads, dk * tl.exp2(pivot), input_precision=PRECISION)
            dk = tl.dot(tl.trans(tl.load(da_on_k_at)), a_reads, dk, input_precision=PRECISION)
            dk *= written
    else:
        to_end = tl.exp2(load_whole(upto_at, C, K, KB) - load_upto(upto_at, False, C, K, KB))
        db *= to_end
        dk *= to_end
        for level in tl.range(0, LEVELS):
            reads, writes, pairs = roles(level, C)
            pivot = load_pivot(upto_at, level, C, K, KB)
            q_reads = rescaled(q, decayed(load_upto(upto_at, BEFORE, C, K, KB) - pivot, reads))
            a_reads = rescaled(a, decayed(load_upto(upto_at, not SINGLE, C, K, KB) - pivot, reads))
            written = decayed(pivot - load_upto(upto_at, False, C, K, KB), writes)
            db_near = tl.dot(tl.trans(near(dq_on_b_at, pairs)), q_reads, input_precision=PRECISION)
            db += written * tl.dot(tl.trans(near(da_on_b_at, pairs)), a_reads, db_near, input_precision=PRECISION)
            if not SINGLE:
                dk_near = tl.dot(tl.trans(near(dq_on_k_at, pairs)), q_reads, input_precision=PRECISION)
                dk += written * tl.dot(tl.trans(near(da_on_k_at, pairs)), a_reads, dk_near, input_precision=PRECISION)
        if not BEFORE:
            db += own_pairs(tl.load(dq_on_b_at), C) * q.to(tl.float32)
            if not SINGLE:
                dk += own_pairs(tl.load(dq_on_k_at), C) * q.to(tl.float32)
    if not SINGLE:
        store_rows(db_ptr + base, db, start, H * K, T, C, KB, KB)
    k, _, b = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
    change = load_rows(ddecay_ptr + base, start, H * K, T, C, KB, KB, True) - db * b.to(tl.float32)
    if SINGLE:
        dbeta_ptr += block.to(tl.int64) * (tl.num_programs(0) // (chunks * (K // KB))) * T
        rows = start + tl.arange(0, C)
        at = dbeta_ptr + ((head // H).to(tl.int64) * T + rows) * H + head % H
        tl.store(at, tl.sum(db * k.to(tl.float32), 1), mask=rows < T)
        dk = db * beta[:, None] - load_rows(dk_ptr + base, start, H * K, T, C, KB, KB, True).to(tl.float32)
    else:
        change -= dk * k.to(tl.float32)
    store_rows(dk_ptr + base, dk, start, H * K, T, C, KB, KB)
    ddecay = tl.cumsum(change, 0, reverse=True) + tail[None, :]
    if BEFORE:
        dq = load_rows(dq_ptr + base, start, H * K, T, C, KB, KB, True)
        ddecay -= load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True).to(tl.float32) * dq.to(tl.float32)
    if not SINGLE:
        da = load_rows(da_ptr + base, start, H * K, T, C, KB, KB, True)
        ddecay -= a.to(tl.float32) * da.to(tl.float32)
    store_rows(ddecay_ptr + base, ddecay, start, H * K, T, C, KB, KB)
