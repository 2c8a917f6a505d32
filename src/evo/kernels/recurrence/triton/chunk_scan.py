"""One scan over time that carries a matrix: the forward pass of the family, and with its roles exchanged the backward.

    out_t = sum_{s <= t} D(t, s) (x_t · y_s) z_s,        D(t, s) = exp(G_t - G_s), G the running sum of log decays

The gradients of out with respect to x, y and z are scans themselves:
    dx = scan(dout, z, y)      dz = scan back(y, x, dout)      dy = scan back(z, dout, x)
One program holds the state of a head for a block of columns of z in registers and passes once over its inputs, so that
no state is ever written to memory. Exponents are differences that are never positive.
"""

import triton
import triton.language as tl

from evo.kernels.triton_rows import load_rows, store_rows

NONE = tl.constexpr(0)
HEAD = tl.constexpr(1)
TOKEN = tl.constexpr(2)
LOG2E = tl.constexpr(1.4426950408889634)
LOG2_ZERO = tl.constexpr(-144.0)


@triton.jit
def running_decay(decay_ptr, rows, T, start, H, b, h, DECAY: tl.constexpr, C: tl.constexpr):
    """Log decays (base 2) of a chunk: each step's own, and summed up to and with it. Steps beyond T do not decay."""
    if DECAY == TOKEN:
        step = tl.load(decay_ptr + (b * T + rows) * H + h, mask=rows < T, other=0.0).to(tl.float32) * LOG2E
        step = tl.maximum(step, LOG2_ZERO)
        upto = tl.cumsum(step, 0)
    elif DECAY == HEAD:
        rate = tl.maximum(tl.load(decay_ptr + h).to(tl.float32) * LOG2E, LOG2_ZERO)
        step = tl.where(rows < T, rate, 0.0)
        upto = rate * tl.minimum(tl.arange(0, C) + 1, T - start).to(tl.float32)
    else:
        step = tl.zeros([C], tl.float32)
        upto = step
    return step, upto


@triton.jit
def pair_decay(upto_query, upto_key, BACK: tl.constexpr, STRICT: tl.constexpr, DECAY: tl.constexpr, C: tl.constexpr):
    """Weights (C, C) between the rows and columns of a chunk: rows are queries, or keys when scanning back."""
    row = tl.arange(0, C)[:, None]
    col = tl.arange(0, C)[None, :]
    later = row - col
    if BACK:
        later = col - row
    open_ = later > 0 if STRICT else later >= 0
    if DECAY == NONE:
        return tl.where(open_, 1.0, 0.0)
    gap = upto_key[:, None] * -1.0 + upto_query[None, :] if BACK else upto_query[:, None] - upto_key[None, :]
    return tl.exp2(tl.where(open_, gap, float("-inf")))


@triton.jit(do_not_specialize=["T"])
def chunk_scan(
    x_ptr, y_ptr, z_ptr, decay_ptr, with_ptr, initial_ptr, kept_ptr,
    out_ptr, dot_ptr, final_ptr, anchor_ptr,
    x_b, x_t, x_h, y_b, y_t, y_h, z_b, z_t, z_h, with_b, with_t, with_h, out_b, out_t, out_h,
    initial_head, initial_a, initial_z, H, T, heads_in_all, scale,
    DECAY: tl.constexpr, BACK: tl.constexpr, STRICT: tl.constexpr, BEFORE: tl.constexpr,
    DOT: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, EVERY: tl.constexpr, A: tl.constexpr,
    Z: tl.constexpr, AP: tl.constexpr, ZB: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (B, T, H, Z), final state (B, H, A, Z), and dot (Z blocks, B, H, T): out · with, summed over the block.

    Before each segment of EVERY chunks but the first, a scan forward keeps its state, (B, H, segments, A, Z), and the
    scan back multiplies it with its own: anchor (Z blocks, B, H, segments), what the pairs across a border add up to.
    `scale` multiplies the output when scanning forward, and y when scanning back, which is where q stands then.
    """
    blocks: tl.constexpr = (Z + ZB - 1) // ZB
    block = tl.program_id(0) % blocks
    head = tl.program_id(0) // blocks
    b = (head // H).to(tl.int64)
    h = head % H
    cols = block * ZB + tl.arange(0, ZB)
    deep = tl.arange(0, AP)
    wide = ZB if Z % ZB == 0 else Z - block * ZB
    kept = (deep[:, None] < A) & (cols[None, :] < Z)
    state = tl.zeros([AP, ZB], tl.float32)
    if INITIAL:
        at = initial_ptr + head.to(tl.int64) * initial_head + deep[:, None] * initial_a + cols[None, :] * initial_z
        state += tl.load(at, mask=kept, other=0.0).to(tl.float32)
    chunks = tl.cdiv(T, C)
    segments = tl.cdiv(chunks, EVERY) if EVERY else 1
    length = EVERY if EVERY else chunks
    for i in tl.range(0, segments):
        segment = segments - 1 - i if BACK else i
        if EVERY:  # noqa: SIM102 (known when this is compiled, unlike i)
            if i > 0:
                border = head.to(tl.int64) * segments + (segment + 1 if BACK else segment)
                at = kept_ptr + border * (A * Z) + (deep[:, None] * Z + cols[None, :])
                if BACK:
                    product = state * tl.load(at, mask=kept, other=0.0)
                    tl.store(anchor_ptr + block * heads_in_all * segments + border, tl.sum(tl.sum(product, 1), 0))
                else:
                    tl.store(at, state, mask=kept)
        first = segment * length
        beyond = tl.minimum(first + length, chunks)
        for j in tl.range(first, beyond):
            start = (first + beyond - 1 - j) * C if BACK else j * C
            rows = start + tl.arange(0, C)
            x = load_rows(x_ptr + b * x_b + h * x_h, start, x_t, T, C, A, AP, True)
            y = load_rows(y_ptr + b * y_b + h * y_h, start, y_t, T, C, A, AP, True)
            z = load_rows(z_ptr + b * z_b + h * z_h + block * ZB, start, z_t, T, C, wide, ZB, True)
            step, upto = running_decay(decay_ptr, rows, T, start, H, b, h, DECAY, C)
            whole = tl.sum(step, 0)
            upto_query = upto - step if BEFORE else upto
            pairs = pair_decay(upto_query, upto, BACK, STRICT, DECAY, C)
            read = whole - upto if BACK else upto_query
            write = upto_query if BACK else whole - upto
            read = tl.exp2(read)
            write = tl.exp2(write)
            if BACK:
                pairs = pairs * scale
                write = write * scale
            scores = tl.dot(x, tl.trans(y), input_precision=PRECISION) * pairs
            out = tl.dot(x, state.to(x.dtype), input_precision=PRECISION) * read[:, None]
            out = tl.dot(scores.to(z.dtype), z, out, input_precision=PRECISION)
            written = (z.to(tl.float32) * write[:, None]).to(z.dtype)
            state = tl.dot(tl.trans(y), written, state * tl.exp2(whole), input_precision=PRECISION)
            if not BACK:
                out = out * scale
            if DOT:
                other = load_rows(with_ptr + b * with_b + h * with_h + block * ZB, start, with_t, T, C, wide, ZB, True)
                dots = tl.sum(out * other.to(tl.float32), 1)
                tl.store(dot_ptr + (block * heads_in_all + head).to(tl.int64) * T + rows, dots, mask=rows < T)
            store_rows(out_ptr + b * out_b + h * out_h + block * ZB, out, start, out_t, T, C, wide, ZB)
    if FINAL:
        at = final_ptr + (head.to(tl.int64) * A + deep[:, None]) * Z + cols[None, :]
        tl.store(at, state, mask=kept)
