"""The delta rule in chunks: errors E = v - k D S, written back as beta k E.

Inside a chunk the errors solve (I + A beta) E = V - D K S, with A the decayed products of keys, strictly below the
diagonal. `prepare` inverts that matrix for every chunk at once (the WY form, 2406.06484, 2412.06464); `forward` and
`errors_back` then scan over time with the state in registers, forward and back, three matmuls a chunk on the path from
state to state: to read it, to solve, to write. The other gradients (`delta_gradients`) take chunks apart.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton.chunk_scan import pair_decay, running_decay
from evo.kernels.triton_rows import load_rows, store_rows


@triton.jit
def between_halves(row, col, level):
    """Whether a cell lies between the late half (rows) and the early half (columns) of a block of 2 ** (level + 1)."""
    return (row >> (level + 1) == col >> (level + 1)) & (row >> level > col >> level)


@triton.jit
def product(x, y, PRECISION: tl.constexpr):
    """x y of float32 matrices. Where the inputs were short, each is split in two bfloat16 parts: more exact than tf32,
    and the accumulators are operands as they lie."""
    if PRECISION == "tf32x3":
        return tl.dot(x, y, input_precision=PRECISION)
    x_high = x.to(tl.bfloat16)
    y_high = y.to(tl.bfloat16)
    x_low = (x - x_high.to(tl.float32)).to(tl.bfloat16)
    y_low = (y - y_high.to(tl.float32)).to(tl.bfloat16)
    return tl.dot(x_high, y_high, tl.dot(x_high, y_low, tl.dot(x_low, y_high)))


@triton.jit
def joined(inverse, below, row, col, FIRST: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr):
    """Inverses of blocks of 2 ** LEVELS, made by halves from those of blocks of 2 ** FIRST on the diagonal."""
    for level in tl.static_range(FIRST, LEVELS):
        part = tl.where(between_halves(row, col, level), below, 0.0)
        inverse -= product(product(inverse, part, PRECISION), inverse, PRECISION)
    return inverse


@triton.jit
def inverse_of(below, C: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr):
    """(I + below)^-1, below being strictly lower, by halves: a block's is made from those of its two halves.

    Blocks of 16 are a batch of their own small products, which a warp makes without waiting for others.
    """
    SMALL: tl.constexpr = 16
    MANY: tl.constexpr = C // SMALL
    own = tl.arange(0, MANY)[:, None, None, None] == tl.arange(0, MANY)[None, None, :, None]
    blocks = tl.sum(tl.where(own, tl.reshape(below, [MANY, SMALL, MANY, SMALL]), 0.0), 2)
    row = tl.arange(0, SMALL)[None, :, None]
    col = tl.arange(0, SMALL)[None, None, :]
    inverse = tl.where(row == col, 1.0, 0.0) - tl.where(between_halves(row, col, 0), blocks, 0.0)
    inverse = joined(inverse, blocks, row, col, 1, 4, PRECISION)
    inverse = tl.reshape(tl.where(own, inverse[:, :, None, :], 0.0), [C, C])
    return joined(inverse, below, tl.arange(0, C)[:, None], tl.arange(0, C)[None, :], 4, LEVELS, PRECISION)


@triton.jit
def packed(base, index, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Pointers to the matrix (ROWS, COLS) at `index` of many that lie one after another."""
    base += tl.cast(index, tl.int64) * (ROWS * COLS)
    return base + (tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])


@triton.jit(do_not_specialize=["T"])
def prepare(
    q_ptr, k_ptr, beta_ptr, decay_ptr, inverse_ptr, scores_ptr, gates_ptr, q_b, q_t, q_h, k_b, k_t, k_h, H, T,
    scale, DECAY: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every chunk: inverse (C, C) of I + A beta, scores (C, C) of queries on written keys, scaled, and gates (2, C)
    float32: what is left at each step of the state before the chunk, and at its end of what the step writes, times
    beta.

    All are stored chunk after chunk, (B, H, chunks, ...).
    """
    chunks = tl.cdiv(T, C)
    chunk = tl.program_id(0)
    start = (chunk % chunks) * C
    head = chunk // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    rows = start + tl.arange(0, C)
    k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
    q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
    beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
    step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
    gates_ptr += chunk.to(tl.int64) * (2 * C) + tl.arange(0, C)
    tl.store(gates_ptr, tl.exp2(upto))
    tl.store(gates_ptr + C, beta * tl.exp2(tl.sum(step, 0) - upto))
    pairs = pair_decay(upto, upto, False, False, DECAY, C) * beta[None, :]
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (pairs * scale)
    tl.store(packed(scores_ptr, chunk, C, C), scores.to(scores_ptr.dtype.element_ty))
    later = tl.arange(0, C)[:, None] > tl.arange(0, C)[None, :]
    below = tl.where(later, tl.dot(k, tl.trans(k), input_precision=PRECISION) * pairs, 0.0)
    inverse = inverse_of(below, C, LEVELS, PRECISION)
    tl.store(packed(inverse_ptr, chunk, C, C), inverse.to(inverse_ptr.dtype.element_ty))


@triton.jit
def load_gates(gates_ptr, chunk, C: tl.constexpr):
    """A chunk's gates, (C,) each, and what the whole chunk leaves of the state before it."""
    gates_ptr += tl.cast(chunk, tl.int64) * (2 * C)
    left = tl.load(gates_ptr + tl.arange(0, C))
    written = tl.load(gates_ptr + C + tl.arange(0, C))
    return left, written, tl.load(gates_ptr + C - 1)


@triton.jit
def value_block(H, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VB: tl.constexpr):
    """What this program holds: row b (64 bits), head h of it, the block of value channels; where the head's state
    begins among all, and the block's places inside it (KP, VB), with which of them there are."""
    blocks: tl.constexpr = (V + VB - 1) // VB
    block, head = tl.program_id(0) % blocks, tl.program_id(0) // blocks
    deep, cols = tl.arange(0, KP)[:, None], block * VB + tl.arange(0, VB)[None, :]
    begin = head.to(tl.int64) * (K * V)
    return (head // H).to(tl.int64), head % H, head, block, begin, deep * V + cols, (deep < K) & (cols < V)


@triton.jit(do_not_specialize=["T"])
def forward(
    q_ptr, k_ptr, v_ptr, inverse_ptr, scores_ptr, gates_ptr, initial_ptr, o_ptr, error_ptr, states_ptr, final_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, o_b, o_t, o_h, H, T, scale,
    INITIAL: tl.constexpr, KEEP: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VB: tl.constexpr,
    C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, V) and the final state (B, H, K, V); with KEEP the errors, with the shape and strides of o, and the
    state before every chunk, (B, H, chunks, K, V)."""
    b, h, head, block, begin, inside, kept = value_block(H, K, V, KP, VB)
    wide = VB if V % VB == 0 else V - block * VB
    state = tl.zeros([KP, VB], tl.float32)
    if INITIAL:
        state += tl.load(initial_ptr + begin + inside, mask=kept, other=0.0).to(tl.float32)
    chunks = tl.cdiv(T, C)
    for i in tl.range(0, chunks):
        start = i * C
        chunk = head * chunks + i
        k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
        v = load_rows(v_ptr + b * v_b + h * v_h + block * VB, start, v_t, T, C, wide, VB, True)
        q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
        inverse = tl.load(packed(inverse_ptr, chunk, C, C))
        scores = tl.load(packed(scores_ptr, chunk, C, C))
        left, written, whole = load_gates(gates_ptr, chunk, C)
        known = state.to(k.dtype)
        if KEEP:
            here = states_ptr + (head.to(tl.int64) * chunks + i) * (K * V)
            tl.store(here + inside, known, mask=kept)
        foreseen = tl.dot(k, known, input_precision=PRECISION) * left[:, None]
        error = tl.dot(inverse, (v.to(tl.float32) - foreseen).to(v.dtype), input_precision=PRECISION)
        o = tl.dot(q, known, input_precision=PRECISION) * (left * scale)[:, None]
        o = tl.dot(scores, error.to(v.dtype), o, input_precision=PRECISION)
        state = tl.dot(tl.trans(k), (error * written[:, None]).to(v.dtype), state * whole, input_precision=PRECISION)
        store_rows(o_ptr + b * o_b + h * o_h + block * VB, o, start, o_t, T, C, wide, VB)
        if KEEP:
            store_rows(error_ptr + b * o_b + h * o_h + block * VB, error, start, o_t, T, C, wide, VB)
    tl.store(final_ptr + begin + inside, state, mask=kept)


@triton.jit(do_not_specialize=["T"])
def errors_back(
    q_ptr, k_ptr, do_ptr, inverse_ptr, scores_ptr, gates_ptr, dfinal_ptr, dv_ptr, dstates_ptr, dinitial_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, do_b, do_t, do_h, dv_b, dv_t, dv_h, H, T, scale,
    DFINAL: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VB: tl.constexpr, C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dv (B, T, H, V), and the gradients of the states after the chunks (B, H, chunks, K, V) and of the initial one."""
    b, h, head, block, begin, inside, kept = value_block(H, K, V, KP, VB)
    wide = VB if V % VB == 0 else V - block * VB
    dstate = tl.zeros([KP, VB], tl.float32)
    if DFINAL:
        dstate += tl.load(dfinal_ptr + begin + inside, mask=kept, other=0.0).to(tl.float32)
    chunks = tl.cdiv(T, C)
    for i in tl.range(0, chunks):
        start = (chunks - 1 - i) * C
        chunk = head * chunks + chunks - 1 - i
        k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
        do = load_rows(do_ptr + b * do_b + h * do_h + block * VB, start, do_t, T, C, wide, VB, True)
        q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
        scores = tl.load(packed(scores_ptr, chunk, C, C))
        inverse = tl.load(packed(inverse_ptr, chunk, C, C))
        left, written, whole = load_gates(gates_ptr, chunk, C)
        known = dstate.to(k.dtype)
        tl.store(dstates_ptr + tl.cast(chunk, tl.int64) * (K * V) + inside, known, mask=kept)
        derror = tl.dot(k, known, input_precision=PRECISION) * written[:, None]
        derror = tl.dot(tl.trans(scores), do, derror, input_precision=PRECISION)
        dv = tl.dot(tl.trans(inverse), derror.to(do.dtype), input_precision=PRECISION)
        asked = (do.to(tl.float32) * (left * scale)[:, None]).to(do.dtype)
        dstate = tl.dot(tl.trans(q), asked, dstate * whole, input_precision=PRECISION)
        foreseen = (dv * -left[:, None]).to(do.dtype)
        dstate = tl.dot(tl.trans(k), foreseen, dstate, input_precision=PRECISION)
        store_rows(dv_ptr + b * dv_b + h * dv_h + block * VB, dv, start, dv_t, T, C, wide, VB)
    tl.store(dinitial_ptr + begin + inside, dstate, mask=kept)
