"""Inside a chunk when every channel decays at its own rate: what the scans over time and the gradients are made of.

With G the running sum of log decays (base 2), A[t, s] = sum_k x[t, k] exp(G[t, k] - G[s, k]) y[s, k] is one matmul,
(x exp G) (y exp -G)^T, as long as exp(-G) stays in range. In a chunk that decays more, this is done in blocks of
2 ** level tokens that do not, and the rest is made by halves: a block of 2h tokens is two blocks of h and the square
between them, a matmul about the pivot where the first half ends, which takes exponentials of non-positive numbers only.
Sums of log decays between two tokens are matmuls with zeros and ones there: differences of long sums would cancel.
Such chunks (STRONG) have code of their own, so that the others, nearly all, do not pay for them in registers.
"""

import triton
import triton.language as tl

from evo.kernels.triton_rows import load_rows, store_rows

LOG2E = tl.constexpr(1.4426950408889634)
LOG2_RANGE = tl.constexpr(100.0)


@triton.jit
def load_steps(decay_ptr, start, stride, T, C: tl.constexpr, K, KP: tl.constexpr):
    """Log decays of a chunk's steps, base 2, float32; a step that decays beyond the range decays to it."""
    step = load_rows(decay_ptr, start, stride, T, C, K, KP, True).to(tl.float32)
    return tl.maximum(step * LOG2E, -LOG2_RANGE)


@triton.jit
def widest(x, dtype: tl.constexpr):
    """x in a type of the precision of dtype that holds powers of two over the whole range."""
    return x.to(tl.float32 if dtype == tl.float16 else dtype)


@triton.jit
def safe_level(step, LEVELS: tl.constexpr):
    """The largest level whose blocks stay in range: the chunk's by its own sums, smaller ones by the worst step."""
    worst_step = tl.min(tl.min(step, 1), 0)
    worst_channel = tl.min(tl.sum(step, 0), 0)
    level = 0
    for i in tl.static_range(1, LEVELS):
        level += (worst_step * 2**i >= -LOG2_RANGE).to(tl.int32)
    return tl.where(worst_channel >= -LOG2_RANGE, LEVELS, level)


@triton.jit
def summed(counted, step):
    """counted @ step, zeros and ones times log decays, to some 22 bits: both halves of a step are exact in float16."""
    ones = tl.where(counted, 1.0, 0.0).to(tl.float16)
    high = step.to(tl.float16)
    low = (step - high.to(tl.float32)).to(tl.float16)
    return tl.dot(ones, high, tl.dot(ones, low))


@triton.jit
def same_block(row, col, level):
    """Whether two tokens lie in the same block of 2 ** level."""
    return (row >> level) == (col >> level)


@triton.jit
def running(step, row, col, level, BEFORE: tl.constexpr):
    """Log decays summed from the start of each token's block of 2 ** level up to and with the token, or before it."""
    return summed(same_block(row, col, level) & (col < row if BEFORE else col <= row), step)


@triton.jit
def halves(step, row, col, level, BEFORE: tl.constexpr):
    """What is left of each token at the pivot of its block (early half), or of the pivot at the token (late half)."""
    late = ((row >> level) & 1) == 1
    upto = col < row if BEFORE else col <= row
    counted = same_block(row, col, level) & ((late & upto) | ((late == 0) & (col > row)))
    left = tl.exp2(summed(counted, step))
    return tl.where(late, left, 0.0), tl.where(late, 0.0, left)


@triton.jit
def chunk_of(program, H, T, C: tl.constexpr):
    """Batch, head, start of the chunk, and its number among (B, H, chunks): heads first, for they lie side by side."""
    chunks = tl.cdiv(T, C)
    h = program % H
    chunk = (program // H) % chunks
    b = (program // (H * chunks)).to(tl.int64)
    return b, h, chunk * C, (b * H + h) * chunks + chunk


@triton.jit
def chunk_operands(
    q_at, k_at, decay_at, bonus_at, reader_at, writer_at, left_at, scores_at, q_t, k_t, g_t, H, start, T, scale,
    STRONG: tl.constexpr, BONUS: tl.constexpr, K: tl.constexpr, KB: tl.constexpr, C: tl.constexpr,
    LEVELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One chunk of `operands`, in range or STRONG; pointers to its head. Returns the most that a channel decays."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    dtype: tl.constexpr = q_at.dtype.element_ty
    scores = tl.zeros([C, C], tl.float32)
    worst = tl.zeros([KB], tl.float32)
    for first in tl.range(0, K, KB):
        cols = first + tl.arange(0, KB)
        wide = K - first
        q = load_rows(q_at + first, start, q_t, T, C, wide, KB, True).to(tl.float32) * scale
        k = load_rows(k_at + first, start, k_t, T, C, wide, KB, True).to(tl.float32)
        step = load_steps(decay_at + first, start, g_t, T, C, wide, KB)
        upto = tl.cumsum(step, 0)
        whole = tl.sum(step, 0)
        before = upto - step if BONUS else upto
        after = whole[None, :] - upto
        if STRONG:
            before = running(step, row, col, LEVELS, BONUS)
            after = summed(col > row, step)
        store_rows(reader_at + first, q * tl.exp2(before), start, H * K, T, C, wide, KB)
        store_rows(writer_at + first, k * tl.exp2(after), start, H * K, T, C, wide, KB)
        tl.store(left_at + cols, tl.exp2(whole), mask=cols < K)
        worst = tl.minimum(worst, whole)
        if STRONG:
            level = safe_level(step, LEVELS)
            upto = running(step, row, col, level, False)
            before = running(step, row, col, level, BONUS)
        x = widest(q * tl.exp2(before), dtype)
        y = widest(k * tl.exp2(tl.minimum(-upto, LOG2_RANGE)), dtype)
        pairs = tl.dot(x, tl.trans(y), input_precision=PRECISION)
        if STRONG:
            pairs = tl.where(same_block(row, col, level), pairs, 0.0)
        scores += tl.where(row > col if BONUS else row >= col, pairs, 0.0)
        if STRONG:
            for above in tl.range(level, LEVELS):
                late, early = halves(step, row, col, above, BONUS)
                square = tl.dot((q * late).to(dtype), tl.trans((k * early).to(dtype)), input_precision=PRECISION)
                scores += tl.where(same_block(row, col, above + 1), square, 0.0)
        if BONUS:
            bonus = tl.load(bonus_at + cols, mask=cols < K, other=0.0).to(tl.float32)[None, :]
            scores += tl.where(row == col, tl.sum(q * bonus * k, 1)[:, None], 0.0)
    tl.store(scores_at + row * C + col, scores.to(dtype))
    return tl.min(worst, 0)


@triton.jit(do_not_specialize=["T"])
def operands(
    q_ptr, k_ptr, decay_ptr, bonus_ptr, reader_ptr, writer_ptr, left_ptr, scores_ptr, worst_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, g_b, g_t, g_h, H, T, scale,
    BONUS: tl.constexpr, K: tl.constexpr, KB: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What a scan reads of each chunk: scaled queries as they read the state that enters it and keys as they are left
    in the one that leaves, both dense (B, T, H, K); its decay (B, H, chunks, K), float32; scores (B, H, chunks, C, C);
    and worst (B, H, chunks), the most that a channel decays, by which a chunk is out of range and made anew.

    With a bonus u a query reads the state before its own step, and the diagonal is scale sum_k q u k (RWKV-6).
    """
    b, h, start, number = chunk_of(tl.program_id(0), H, T, C)
    q_at = q_ptr + b * q_b + h * q_h
    k_at = k_ptr + b * k_b + h * k_h
    decay_at = decay_ptr + b * g_b + h * g_h
    bonus_at = bonus_ptr + h * K if BONUS else bonus_ptr
    base = (b * T * H + h) * K
    scores_at = scores_ptr + number * C * C
    left_at = left_ptr + number * K
    worst = chunk_operands(
        q_at, k_at, decay_at, bonus_at, reader_ptr + base, writer_ptr + base, left_at, scores_at, q_t, k_t, g_t, H,
        start, T, scale, False, BONUS, K, KB, C, LEVELS, PRECISION,
    )  # fmt: skip
    tl.store(worst_ptr + number, worst)
    if worst < -LOG2_RANGE:
        tl.debug_barrier()
        chunk_operands(
            q_at, k_at, decay_at, bonus_at, reader_ptr + base, writer_ptr + base, left_at, scores_at, q_t, k_t, g_t, H,
            start, T, scale, True, BONUS, K, KB, C, LEVELS, PRECISION,
        )  # fmt: skip
