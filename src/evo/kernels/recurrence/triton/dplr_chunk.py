"""The generalised delta rule in chunks, every key channel decaying at its own rate: what chunks can know alone.

    U = a S + A_ab U + A_ak V      what the readers a see of the state, strictly before their own step
    O = q S + A_qb U + A_qk V      S' = D S + b U + k V
so that with inverse = (I - A_ab)^-1 a chunk is U = inverse (a S) + inverse A_ak V, O and S' (RWKV-7 2503.14456, and
the WY form of 2412.06464). The delta rule with a decay per channel (2510.26692) is the case of one writer, SINGLE: U
are its errors, U = V + a S + A_ab U, with a = -k reading the decayed state, b = beta k, and no A_ak and A_qk.

Scores A[t, s] = sum_k x[t, k] exp(G[t, k] - G[s, k]) y[s, k] are matmuls about a pivot. A gentle chunk, whose decay
stays within a range that its dtype can hold, has one pivot, half-way through its decay. Any other is made by halves: a
block of 2h tokens is two of h and the square between them, whose pivot is the end of its first half, so that only
exponentials of non-positive numbers are taken.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.delta import inverse_of, packed
from evo.kernels.triton_rows import load_rows

LOG2E = tl.constexpr(1.4426950408889634)
LOG2_ZERO = tl.constexpr(-144.0)


@triton.jit
def column_block(base, index, block, rows_in_all, COLS_IN_ALL: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Pointers (ROWS, COLS) to a block of columns in the matrix at `index` of many (rows_in_all, COLS_IN_ALL)."""
    base += tl.cast(index, tl.int64) * (rows_in_all * COLS_IN_ALL) + block * COLS
    return base + (tl.arange(0, ROWS)[:, None] * COLS_IN_ALL + tl.arange(0, COLS)[None, :])


@triton.jit(do_not_specialize=["T"])
def run_decay(decay_ptr, upto_ptr, left_ptr, H, T, K: tl.constexpr, KB: tl.constexpr, C: tl.constexpr):
    """upto (B, H, chunks, C, K): log decays (base 2) summed in each chunk up to a token; left (B, H, chunks, K): what
    the whole chunk leaves, as factors. `decay` is dense (B, T, H, K), natural logs; steps beyond T do not decay."""
    chunks = tl.cdiv(T, C)
    blocks: tl.constexpr = K // KB
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks
    head = chunk // chunks
    base = ((head // H).to(tl.int64) * T * H + head % H) * K + block * KB
    step = load_rows(decay_ptr + base, (chunk % chunks) * C, H * K, T, C, KB, KB, True).to(tl.float32)
    step = tl.maximum(step * LOG2E, LOG2_ZERO)
    tl.store(column_block(upto_ptr, chunk, block, C, K, C, KB), tl.cumsum(step, 0))
    left = tl.exp2(tl.sum(step, 0))
    tl.store(left_ptr + chunk.to(tl.int64) * K + block * KB + tl.arange(0, KB), left)


@triton.jit
def load_upto(upto_at, BEFORE: tl.constexpr, C: tl.constexpr, K: tl.constexpr, KB: tl.constexpr):
    """Log decays (C, KB) from a chunk's start up to and with each token, or with BEFORE without it."""
    rows = tl.arange(0, C)[:, None]
    cols = tl.arange(0, KB)[None, :]
    if BEFORE:
        return tl.load(upto_at + (rows - 1) * K + cols, mask=rows > 0, other=0.0)
    return tl.load(upto_at + rows * K + cols)


@triton.jit
def load_whole(upto_at, C: tl.constexpr, K: tl.constexpr, KB: tl.constexpr):
    """Log decay (1, KB) over a chunk."""
    return tl.load(upto_at + (C - 1) * K + tl.arange(0, KB)[None, :])


@triton.jit
def is_gentle(upto_at, RANGE: tl.constexpr, C: tl.constexpr, K: tl.constexpr, KB: tl.constexpr):
    """Whether none of KB channels decays by more than RANGE (base 2) over the chunk."""
    return tl.min(tl.min(load_whole(upto_at, C, K, KB), 1), 0) >= -RANGE


@triton.jit
def load_pivot(upto_at, level, C: tl.constexpr, K: tl.constexpr, KB: tl.constexpr):
    """The log decay (C, KB) where the early half of each token's block ends."""
    row = tl.arange(0, C)[:, None]
    row = ((row >> (level + 1)) << (level + 1)) + (1 << level) - 1
    return tl.load(upto_at + row * K + tl.arange(0, KB)[None, :])


@triton.jit
def decayed(exponent, kept):
    """exp2(exponent) where kept, else 0."""
    return tl.exp2(tl.where(kept, exponent, float("-inf")))


@triton.jit
def rescaled(x, factor):
    """x factor, in x's dtype."""
    return (x.to(tl.float32) * factor).to(x.dtype)


@triton.jit
def load_beta(beta_ptr, head, start, H, T, SINGLE: tl.constexpr, C: tl.constexpr):
    """beta (C,) float32 of the single writer, which is stored (B, T, H); else ones that nobody reads."""
    if SINGLE:
        rows = start + tl.arange(0, C)
        at = beta_ptr + ((head // H).to(tl.int64) * T + rows) * H + head % H
        beta = tl.load(at, mask=rows < T, other=0.0).to(tl.float32)
    else:
        beta = tl.full([C], 1.0, tl.float32)
    return beta


@triton.jit
def load_dplr(
    k_ptr, a_ptr, b_ptr, beta, base, start, stride, T, SINGLE: tl.constexpr, C: tl.constexpr, KB: tl.constexpr
):
    """k, a and b (C, KB); of the single writer a = -k and b = beta k."""
    k = load_rows(k_ptr + base, start, stride, T, C, KB, KB, True)
    if SINGLE:
        a = rescaled(k, -1.0)
        b = rescaled(k, beta[:, None])
    else:
        a = load_rows(a_ptr + base, start, stride, T, C, KB, KB, True)
        b = load_rows(b_ptr + base, start, stride, T, C, KB, KB, True)
    return k, a, b


@triton.jit
def roles(level, C: tl.constexpr):
    """Which tokens (C, 1) read at this level, which write, and which pairs (C, C) it makes."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    late = (row >> level) & 1
    return late > 0, late < 1, (row > col) & ((row >> (level + 1)) == (col >> (level + 1)))


@triton.jit
def add_scores(
    on_b, on_k, x, b, k, upto_at,
    GENTLE: tl.constexpr, BEFORE: tl.constexpr, SINGLE: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    KB: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add what a block of channels gives to the scores (C, C) of readers x on b and k: below the diagonal, and of a
    gentle chunk anywhere."""
    if GENTLE:
        pivot = 0.5 * load_whole(upto_at, C, K, KB)
        x_reads = rescaled(x, tl.exp2(load_upto(upto_at, BEFORE, C, K, KB) - pivot))
        written = tl.exp2(pivot - load_upto(upto_at, False, C, K, KB))
        on_b = tl.dot(x_reads, tl.trans(rescaled(b, written)), on_b, input_precision=PRECISION)
        if not SINGLE:
            on_k = tl.dot(x_reads, tl.trans(rescaled(k, written)), on_k, input_precision=PRECISION)
    else:
        for level in tl.range(0, LEVELS):
            reads, writes, pairs = roles(level, C)
            pivot = load_pivot(upto_at, level, C, K, KB)
            x_reads = rescaled(x, decayed(load_upto(upto_at, BEFORE, C, K, KB) - pivot, reads))
            written = decayed(pivot - load_upto(upto_at, False, C, K, KB), writes)
            on_b += tl.where(pairs, tl.dot(x_reads, tl.trans(rescaled(b, written)), input_precision=PRECISION), 0.0)
            if not SINGLE:
                on_k += tl.where(pairs, tl.dot(x_reads, tl.trans(rescaled(k, written)), input_precision=PRECISION), 0.0)
    return on_b, on_k


@triton.jit
def own_scores(x, y, C: tl.constexpr):
    """x · y of every token with itself, on the diagonal of (C, C)."""
    same = tl.arange(0, C)[:, None] == tl.arange(0, C)[None, :]
    return tl.where(same, tl.sum(x.to(tl.float32) * y.to(tl.float32), 1)[:, None], 0.0)


@triton.jit
def seen_pairs(C: tl.constexpr, OWN: tl.constexpr):
    """(C, C): whether a row's token sees what the column's wrote; with OWN also its own."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    if OWN:
        return row >= col
    return row > col


@triton.jit(do_not_specialize=["T"])
def prepare(
    q_ptr, k_ptr, a_ptr, b_ptr, beta_ptr, upto_ptr, query_ptr, reader_ptr, key_ptr, writer_ptr,
    inverse_ptr, mixed_ptr, on_k_ptr, on_b_ptr, H, T, scale,
    GENTLE: tl.constexpr, BEFORE: tl.constexpr, SINGLE: tl.constexpr, K: tl.constexpr, KB: tl.constexpr,
    C: tl.constexpr, LEVELS: tl.constexpr, RANGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every gentle chunk, or of every other, stored one after another, (B, H, chunks, ...): with the decay from its
    start, query = scale q and reader = inverse a, (C, K); with the decay to its end, key and writer (C, K);
    inverse, mixed = inverse A_ak, on_k = A_qk and on_b = A_qb, (C, C).

    q, k, a, b are dense (B, T, H, K), beta (B, T, H). With BEFORE, q reads the state before its own step. SINGLE: with
    beta for a and b, and mixed = inverse, on_k and key not made.
    """
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    token = ((head // H).to(tl.int64) * T * H + head % H) * K
    short = inverse_ptr.dtype.element_ty
    upto_ptr += chunk.to(tl.int64) * (C * K)
    if is_gentle(upto_ptr, RANGE, C, K, K) != GENTLE:
        return
    beta = load_beta(beta_ptr, head, start, H, T, SINGLE, C)
    on_b = tl.zeros([C, C], tl.float32)
    on_k = tl.zeros([C, C], tl.float32)
    for block in tl.range(0, K // KB):
        base = token + block * KB
        upto_at = upto_ptr + block * KB
        q = load_rows(q_ptr + base, start, H * K, T, C, KB, KB, True)
        q = rescaled(q, scale)
        k, _, b = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
        to_end = tl.exp2(load_whole(upto_at, C, K, KB) - load_upto(upto_at, False, C, K, KB))
        tl.store(
            column_block(query_ptr, chunk, block, C, K, C, KB),
            rescaled(q, tl.exp2(load_upto(upto_at, BEFORE, C, K, KB))),
        )
        tl.store(column_block(writer_ptr, chunk, block, C, K, C, KB), rescaled(b, to_end))
        on_b, on_k = add_scores(
            on_b, on_k, q, b, k, upto_at, GENTLE, BEFORE, SINGLE, C, K, KB, LEVELS, PRECISION
        )  # fmt: skip
        if not SINGLE:
            tl.store(column_block(key_ptr, chunk, block, C, K, C, KB), rescaled(k, to_end))
        if not GENTLE and not BEFORE:
            on_b += own_scores(q, b, C)
            on_k += own_scores(q, k, C)
    at_once = seen_pairs(C, not BEFORE)
    tl.store(packed(on_b_ptr, chunk, C, C), tl.where(at_once, on_b, 0.0).to(short))
    if not SINGLE:
        tl.store(packed(on_k_ptr, chunk, C, C), tl.where(at_once, on_k, 0.0).to(short))
    on_b = tl.zeros([C, C], tl.float32)
    on_k = tl.zeros([C, C], tl.float32)
    for block in tl.range(0, K // KB):
        base = token + block * KB
        k, a, b = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
        on_b, on_k = add_scores(
            on_b, on_k, a, b, k, upto_ptr + block * KB, GENTLE, not SINGLE, SINGLE, C, K, KB, LEVELS, PRECISION
        )  # fmt: skip
    earlier = seen_pairs(C, False)
    inverse = inverse_of(tl.where(earlier, -on_b, 0.0), C, LEVELS, PRECISION).to(short)
    tl.store(packed(inverse_ptr, chunk, C, C), inverse)
    if not SINGLE:
        on_k = tl.where(earlier, on_k, 0.0).to(short)
        tl.store(packed(mixed_ptr, chunk, C, C), tl.dot(inverse, on_k, input_precision=PRECISION).to(short))
    for block in tl.range(0, K // KB):
        base = token + block * KB
        _, a, _ = load_dplr(k_ptr, a_ptr, b_ptr, beta, base, start, H * K, T, SINGLE, C, KB)
        seen = rescaled(a, tl.exp2(load_upto(upto_ptr + block * KB, not SINGLE, C, K, KB)))
        reader = tl.dot(inverse, seen, input_precision=PRECISION)
        tl.store(column_block(reader_ptr, chunk, block, C, K, C, KB), reader.to(short))
