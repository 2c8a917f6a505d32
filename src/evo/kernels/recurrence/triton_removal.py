"""The generalised delta rule in chunks, every key channel decaying at its own rate: what chunks can know alone.

    U = a S + A_ab U + A_ak V      what the readers a see of the state, strictly before their own step
    O = q S + A_qb U + A_qk V      S' = D S + b U + k V
so that with inverse = (I - A_ab)^-1 a chunk is U = inverse (a S) + inverse A_ak V, O and S' (RWKV-7 2503.14456, and the
WY form of 2412.06464). The delta rule with a decay per channel (2510.26692) is the case of one writer: U are its errors,
U = V + a S + A_ab U with a = -k reading the decayed state, b = beta k, and no k.

Scores A[t, s] = sum_k x[t, k] exp(G[t, k] - G[s, k]) y[s, k] are matmuls about a pivot. A gentle chunk, whose decay stays
within a range that its dtype can hold, has one pivot, half-way through its decay. Any other is made by halves: a block
of 2h tokens is two of h and the square between them, whose pivot is the end of its first half, so that only
exponentials of non-positive numbers are taken.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton_delta import inverse_of, packed
from evo.kernels.triton_rows import load_rows

LOG2E = tl.constexpr(1.4426950408889634)
LOG2_ZERO = tl.constexpr(-144.0)


@triton.jit
def state_block(head, block, rows_in_all, cols_in_all: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Offsets (ROWS, COLS) of a block of columns in the `head`-th of many matrices (rows_in_all, cols_in_all)."""
    at = tl.arange(0, ROWS)[:, None] * cols_in_all + (block * COLS + tl.arange(0, COLS)[None, :])
    return tl.cast(head, tl.int64) * (rows_in_all * cols_in_all) + at


@triton.jit
def load_decay(decay_ptr, start, H, T, C: tl.constexpr, K: tl.constexpr, KB: tl.constexpr):
    """Log decays (base 2) of a chunk's tokens, (C, KB): each step's own and summed up to it; and over the chunk, (KB,).

    Steps beyond T do not decay.
    """
    step = load_rows(decay_ptr, start, H * K, T, C, KB, KB, True).to(tl.float32)
    step = tl.maximum(step * LOG2E, LOG2_ZERO)
    return step, tl.cumsum(step, 0), tl.sum(step, 0)


@triton.jit
def from_pivot(upto, whole, level, gentle, C: tl.constexpr, KB: tl.constexpr):
    """Log2 of what is left of its pivot at each late token, and of each early token at its pivot, (C, KB).

    A gentle chunk has one pivot for all, which may lie after a token: the gap is positive then.
    """
    if gentle == 1:
        gap = upto - 0.5 * whole[None, :]
    else:
        row = tl.arange(0, C)[:, None]
        pivot = ((row >> (level + 1)) << (level + 1)) + (1 << level) - 1
        gap = upto - tl.gather(upto, tl.broadcast_to(pivot, [C, KB]), 0)
        gap = tl.where(((row >> level) & 1) == 1, gap, -gap)
    return gap


@triton.jit
def rescaled(x, exponent, kept):
    """x exp2(exponent) where kept, else 0, in x's dtype."""
    return (x.to(tl.float32) * tl.exp2(tl.where(kept, exponent, float("-inf")))).to(x.dtype)


@triton.jit
def roles(level, gentle, C: tl.constexpr, LEVELS: tl.constexpr):
    """Which tokens (C, 1) read and which write at this level, and which pairs (C, C) it makes; gentle chunks have one."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    late = (row >> level) & 1
    block = LEVELS * gentle + (level + 1) * (1 - gentle)
    return late >= 1 - gentle, late <= gentle, (row > col) & ((row >> block) == (col >> block))


@triton.jit(do_not_specialize=["T"])
def prepare(
    q_ptr, k_ptr, a_ptr, b_ptr, decay_ptr, left_ptr, query_ptr, reader_ptr, key_ptr, writer_ptr,
    inverse_ptr, mixed_ptr, on_k_ptr, on_b_ptr, H, T, scale,
    BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, KB: tl.constexpr, C: tl.constexpr,
    LEVELS: tl.constexpr, RANGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every chunk, stored one after another, (B, H, chunks, ...): with the decay from its start, query = scale q and
    reader = inverse a, (C, K); with the decay to its end, key and writer (C, K); inverse, mixed = inverse A_ak, on_k = A_qk
    and on_b = A_qb, (C, C); left, its whole decay as factors (K,), float32.

    All inputs are dense (B, T, H, K). With BEFORE, q reads the state before its own step. SINGLE: without k.
    """
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    token = ((head // H).to(tl.int64) * T * H + head % H) * K
    square = packed(chunk, C, C)
    same = tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]
    on_b = tl.zeros([C, C], tl.float32)
    among = tl.zeros([C, C], tl.float32)
    on_k = tl.zeros([C, C], tl.float32)
    mixed = tl.zeros([C, C], tl.float32)
    for block in tl.range(0, K // KB):
        base = token + block * KB
        tile = state_block(chunk, block, C, K, C, KB)
        step, upto, whole = load_decay(decay_ptr + base, start, H, T, C, K, KB)
        tl.store(left_ptr + chunk.to(tl.int64) * K + block * KB + tl.arange(0, KB), tl.exp2(whole))
        before = upto - step
        upto_q = before if BEFORE else upto
        upto_a = upto if SINGLE else before
        q = load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True)
        q = (q.to(tl.float32) * scale).to(q.dtype)
        a = load_rows(a_ptr + base, start, H * K, T, C, KB, KB, True)
        b = load_rows(b_ptr + base, start, H * K, T, C, KB, KB, True)
        k = b if SINGLE else load_rows(k_ptr + base, start, H * K, T, C, KB, KB, True)
        tl.store(query_ptr + tile, rescaled(q, upto_q, True))
        tl.store(writer_ptr + tile, rescaled(b, whole[None, :] - upto, True))
        if not SINGLE:
            tl.store(key_ptr + tile, rescaled(k, whole[None, :] - upto, True))
        if not BEFORE:
            on_b += tl.where(same, tl.sum(q.to(tl.float32) * b.to(tl.float32), 1)[:, None], 0.0)
            if not SINGLE:
                on_k += tl.where(same, tl.sum(q.to(tl.float32) * k.to(tl.float32), 1)[:, None], 0.0)
        gentle = (tl.min(whole, 0) >= -RANGE).to(tl.int32)
        for level in tl.range(0, gentle + (1 - gentle) * LEVELS):
            gap = from_pivot(upto, whole, level, gentle, C, KB)
            reads, writes, pairs = roles(level, gentle, C, LEVELS)
            q_reads = rescaled(q, gap + (upto_q - upto), reads)
            a_reads = rescaled(a, gap + (upto_a - upto), reads)
            back = gap * (1 - 2 * gentle)
            b_writes = tl.trans(rescaled(b, back, writes))
            on_b += tl.where(pairs, tl.dot(q_reads, b_writes, input_precision=PRECISION), 0.0)
            among += tl.where(pairs, tl.dot(a_reads, b_writes, input_precision=PRECISION), 0.0)
            if not SINGLE:
                k_writes = tl.trans(rescaled(k, back, writes))
                on_k += tl.where(pairs, tl.dot(q_reads, k_writes, input_precision=PRECISION), 0.0)
                mixed += tl.where(pairs, tl.dot(a_reads, k_writes, input_precision=PRECISION), 0.0)
    short = inverse_ptr.dtype.element_ty
    tl.store(on_b_ptr + square, on_b.to(short))
    if not SINGLE:
        tl.store(on_k_ptr + square, on_k.to(short))
    inverse = inverse_of(-among, C, LEVELS, PRECISION).to(short)
    tl.store(inverse_ptr + square, inverse)
    if not SINGLE:
        tl.store(mixed_ptr + square, tl.dot(inverse, mixed.to(short), input_precision=PRECISION).to(short))
    for block in tl.range(0, K // KB):
        step, upto, _ = load_decay(decay_ptr + token + block * KB, start, H, T, C, K, KB)
        a = load_rows(a_ptr + token + block * KB, start, H * K, T, C, KB, KB, True)
        seen = rescaled(a, upto if SINGLE else upto - step, True)
        reader = tl.dot(inverse, seen, input_precision=PRECISION)
        tl.store(reader_ptr + state_block(chunk, block, C, K, C, KB), reader.to(short))
