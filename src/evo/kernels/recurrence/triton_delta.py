"""The delta rule in chunks: errors E = v - k D S, written back as beta k E.

Inside a chunk the errors solve (I + A beta) E = V - D K S, with A the decayed products of keys, strictly below the
diagonal. `prepare` inverts that matrix for every chunk at once, so that E = inverse V + reader S (the WY form,
2406.06484, 2412.06464); `forward` and `errors_back` then walk over time with the state in registers, forward and back,
two matmuls a chunk on the path from state to state. The other gradients (`triton_delta_gradients`) take chunks apart.
"""

import triton
import triton.language as tl

from evo.kernels.recurrence.triton_walk import pair_decay, running_decay
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
def inverse_of(below, C: tl.constexpr, LEVELS: tl.constexpr, PRECISION: tl.constexpr):
    """(I + below)^-1, below being strictly lower, by halves: a block's is made from those of its two halves."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    inverse = tl.where(row == col, 1.0, 0.0) - tl.where(between_halves(row, col, 0), below, 0.0)
    for level in tl.range(1, LEVELS):
        part = tl.where(between_halves(row, col, level), below, 0.0)
        inverse -= product(product(inverse, part, PRECISION), inverse, PRECISION)
    return inverse


@triton.jit
def packed(base, index, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Pointers to the matrix (ROWS, COLS) at `index` of many that lie one after another."""
    base += tl.cast(index, tl.int64) * (ROWS * COLS)
    return base + (tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :])


@triton.jit(do_not_specialize=["T"])
def prepare(
    q_ptr, k_ptr, beta_ptr, decay_ptr, inverse_ptr, scores_ptr, reader_ptr, q_b, q_t, q_h, k_b, k_t, k_h, H, T,
    DECAY: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, C: tl.constexpr, LEVELS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every chunk: inverse (C, C) of I + A beta, scores (C, C) of queries on written keys, reader (C, K).

    All three are stored chunk after chunk, (B, H, chunks, C, ...). The reader is -inverse D K.
    """
    chunks = tl.cdiv(T, C)
    start = (tl.program_id(0) % chunks) * C
    head = tl.program_id(0) // chunks
    b = (head // H).to(tl.int64)
    h = head % H
    rows = start + tl.arange(0, C)
    k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
    q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
    beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
    _, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
    pairs = pair_decay(upto, upto, False, False, DECAY, C) * beta[None, :]
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * pairs
    tl.store(packed(scores_ptr, tl.program_id(0), C, C), scores.to(scores_ptr.dtype.element_ty))
    later = tl.arange(0, C)[:, None] > tl.arange(0, C)[None, :]
    below = tl.where(later, tl.dot(k, tl.trans(k), input_precision=PRECISION) * pairs, 0.0)
    inverse = inverse_of(below, C, LEVELS, PRECISION).to(inverse_ptr.dtype.element_ty)
    tl.store(packed(inverse_ptr, tl.program_id(0), C, C), inverse)
    k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
    seen = (k.to(tl.float32) * -tl.exp2(upto)[:, None]).to(k.dtype)
    reader = tl.dot(inverse, seen, input_precision=PRECISION)
    store_rows(reader_ptr, reader, tl.program_id(0) * C, K, tl.num_programs(0) * C, C, K, KP)


@triton.jit(do_not_specialize=["T"])
def forward(
    q_ptr, k_ptr, v_ptr, beta_ptr, decay_ptr, inverse_ptr, scores_ptr, reader_ptr, initial_ptr,
    o_ptr, error_ptr, states_ptr, final_ptr, q_b, q_t, q_h, k_b, k_t, k_h, v_b, v_t, v_h, o_b, o_t, o_h, H, T, scale,
    DECAY: tl.constexpr, INITIAL: tl.constexpr, KEEP: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    KP: tl.constexpr, VB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """o (B, T, H, V) and the final state (B, H, K, V); with KEEP the errors, with the shape and strides of o, and the
    state before every chunk, (B, H, chunks, K, V)."""
    blocks: tl.constexpr = (V + VB - 1) // VB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    wide = VB if V % VB == 0 else V - block * VB
    deep = tl.arange(0, KP)[:, None]
    cols = block * VB + tl.arange(0, VB)[None, :]
    state_at = (head.to(tl.int64) * K + deep) * V + cols
    kept = (deep < K) & (cols < V)
    state = tl.zeros([KP, VB], tl.float32)
    if INITIAL:
        state += tl.load(initial_ptr + state_at, mask=kept, other=0.0).to(tl.float32)
    chunks = tl.cdiv(T, C)
    for i in tl.range(0, chunks):
        start = i * C
        rows = start + tl.arange(0, C)
        reader = load_rows(reader_ptr, (head * chunks + i) * C, K, (head * chunks + i + 1) * C, C, K, KP, KP != K)
        v = load_rows(v_ptr + b * v_b + h * v_h + block * VB, start, v_t, T, C, wide, VB, True)
        q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
        k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
        inverse = tl.load(packed(inverse_ptr, head * chunks + i, C, C))
        scores = tl.load(packed(scores_ptr, head * chunks + i, C, C))
        beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
        step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
        whole = tl.sum(step, 0)
        known = state.to(k.dtype)
        if KEEP:
            here = states_ptr + (head.to(tl.int64) * chunks + i) * (K * V)
            tl.store(here + (deep * V + cols), known, mask=kept)
        error = tl.dot(inverse, v, input_precision=PRECISION)
        error = tl.dot(reader, known, error, input_precision=PRECISION)
        o = tl.dot(q, known, input_precision=PRECISION) * tl.exp2(upto)[:, None]
        o = tl.dot(scores, error.to(v.dtype), o, input_precision=PRECISION)
        written = (error * (beta * tl.exp2(whole - upto))[:, None]).to(v.dtype)
        state = tl.dot(tl.trans(k), written, state * tl.exp2(whole), input_precision=PRECISION)
        store_rows(o_ptr + b * o_b + h * o_h + block * VB, o * scale, start, o_t, T, C, wide, VB)
        if KEEP:
            store_rows(error_ptr + b * o_b + h * o_h + block * VB, error, start, o_t, T, C, wide, VB)
    tl.store(final_ptr + state_at, state, mask=kept)


@triton.jit(do_not_specialize=["T"])
def errors_back(
    q_ptr, k_ptr, do_ptr, beta_ptr, decay_ptr, inverse_ptr, scores_ptr, reader_ptr, dfinal_ptr,
    dv_ptr, dstates_ptr, dinitial_ptr,
    q_b, q_t, q_h, k_b, k_t, k_h, do_b, do_t, do_h, dv_b, dv_t, dv_h, H, T, scale,
    DECAY: tl.constexpr, DFINAL: tl.constexpr, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VB: tl.constexpr,
    C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dv (B, T, H, V), and the gradients of the states after the chunks (B, H, chunks, K, V) and of the initial one."""
    blocks: tl.constexpr = (V + VB - 1) // VB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    wide = VB if V % VB == 0 else V - block * VB
    deep = tl.arange(0, KP)[:, None]
    cols = block * VB + tl.arange(0, VB)[None, :]
    state_at = (head.to(tl.int64) * K + deep) * V + cols
    kept = (deep < K) & (cols < V)
    dstate = tl.zeros([KP, VB], tl.float32)
    if DFINAL:
        dstate += tl.load(dfinal_ptr + state_at, mask=kept, other=0.0).to(tl.float32)
    chunks = tl.cdiv(T, C)
    for i in tl.range(0, chunks):
        chunk = chunks - 1 - i
        start = chunk * C
        rows = start + tl.arange(0, C)
        k = load_rows(k_ptr + b * k_b + h * k_h, start, k_t, T, C, K, KP, True)
        do = load_rows(do_ptr + b * do_b + h * do_h + block * VB, start, do_t, T, C, wide, VB, True)
        q = load_rows(q_ptr + b * q_b + h * q_h, start, q_t, T, C, K, KP, True)
        here = (head * chunks + chunk) * C
        reader = load_rows(reader_ptr, here, K, here + C, C, K, KP, KP != K)
        inverse = tl.load(packed(inverse_ptr, head * chunks + chunk, C, C))
        scores = tl.load(packed(scores_ptr, head * chunks + chunk, C, C))
        beta = tl.load(beta_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32)
        step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
        whole = tl.sum(step, 0)
        known = dstate.to(k.dtype)
        tl.store(dstates_ptr + (head.to(tl.int64) * chunks + chunk) * (K * V) + (deep * V + cols), known, mask=kept)
        asked = (do.to(tl.float32) * (tl.exp2(upto) * scale)[:, None]).to(do.dtype)
        derror = tl.dot(k, known, input_precision=PRECISION) * (beta * tl.exp2(whole - upto))[:, None]
        derror += tl.dot(tl.trans(scores), do, input_precision=PRECISION) * scale
        written = derror.to(do.dtype)
        dstate = tl.dot(tl.trans(q), asked, dstate * tl.exp2(whole), input_precision=PRECISION)
        dstate = tl.dot(tl.trans(reader), written, dstate, input_precision=PRECISION)
        dv = tl.dot(tl.trans(inverse), written, input_precision=PRECISION)
        store_rows(dv_ptr + b * dv_b + h * dv_h + block * VB, dv, start, dv_t, T, C, wide, VB)
    tl.store(dinitial_ptr + state_at, dstate, mask=kept)
