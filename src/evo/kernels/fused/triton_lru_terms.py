"""Triton kernels: the decay and the input of an RG-LRU from its gates, and the backward, which computes both anew."""

# pyright: reportGeneralTypeIssues=false
# What `triton.jit` returns is typed as never returning.

import triton
import triton.language as tl

from evo.kernels.fused.triton_gated import activate, slope


@triton.jit
def room(log_decay):
    """1 - exp(2 log_decay), float32: by its series where that difference keeps few digits."""
    y = -2.0 * log_decay
    series = y * (1.0 - y / 2.0 * (1.0 - y / 3.0 * (1.0 - y / 4.0 * (1.0 - y / 5.0 * (1.0 - y / 6.0)))))
    return tl.where(y < 0.25, series, 1.0 - tl.exp(-y))


@triton.jit
def load_terms(
    u, input_gate, decay_gate, input_bias, decay_bias, rate, first, row, col, rows, C, P, SHARPNESS: tl.constexpr
):  # fmt: skip
    """What a tile of (rows, C) reads: u, both gates before their sigmoids, log a and the factor of the input.

    Gates are dense (heads, rows, P) with C = heads * P, all else is dense (rows, C), (C,) and (rows,).
    """
    inside = (row < rows) & (col < C)
    at = ((col // P) * rows.to(tl.int64) + row) * P + col % P
    value = tl.load(u + row * C + col, mask=inside, other=0.0).to(tl.float32)
    i = tl.load(input_gate + at, mask=inside, other=0.0).to(tl.float32)
    i += tl.load(input_bias + col, mask=col < C, other=0.0).to(tl.float32)
    r = tl.load(decay_gate + at, mask=inside, other=0.0).to(tl.float32)
    r += tl.load(decay_bias + col, mask=col < C, other=0.0).to(tl.float32)
    steep = -SHARPNESS * tl.load(rate + col, mask=col < C, other=0.0).to(tl.float32)
    is_first = tl.load(first + row, mask=row < rows, other=0) != 0
    return inside, at, value, i, r, steep, is_first


@triton.jit(do_not_specialize=["rows"])
def terms_forward(
    u, input_gate, decay_gate, input_bias, decay_bias, rate, first, decay, out, rows, C, P,
    SHARPNESS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """decay = a and out = sqrt(1 - a²) sigmoid(i) u, or sigmoid(i) u in first rows; dense (rows, C), float32."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside, _, value, i, r, steep, is_first = load_terms(
        u, input_gate, decay_gate, input_bias, decay_bias, rate, first, row, col, rows, C, P, SHARPNESS
    )
    log_decay = steep * activate(r, "sigmoid")
    factor = tl.where(is_first, 1.0, tl.sqrt(room(log_decay)))
    tl.store(decay + row * C + col, tl.exp(log_decay), mask=inside)
    tl.store(out + row * C + col, factor * activate(i, "sigmoid") * value, mask=inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def terms_backward(
    ddecay, dout, u, input_gate, decay_gate, input_bias, decay_bias, rate, first, du, dinput_gate, ddecay_gate, shares,
    rows, C, P, tiles,
    SHARPNESS: tl.constexpr, STEEPEST: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """du and the gradients of both gates, laid out as these, of `tiles` tiles a program; and its shares of the
    gradients of the input gate's bias, the decay gate's and the rate, (3, programs, C)."""
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    share_input = tl.zeros((ROWS, COLS), tl.float32)
    share_decay = tl.zeros((ROWS, COLS), tl.float32)
    share_rate = tl.zeros((ROWS, COLS), tl.float32)
    for tile in range(tiles):
        row = (tl.program_id(0).to(tl.int64) * tiles + tile) * ROWS + tl.arange(0, ROWS)[:, None]
        inside, at, value, i, r, steep, is_first = load_terms(
            u, input_gate, decay_gate, input_bias, decay_bias, rate, first, row, col, rows, C, P, SHARPNESS
        )
        into_decay = tl.load(ddecay + row * C + col, mask=inside, other=0.0)
        into_out = tl.load(dout + row * C + col, mask=inside, other=0.0)
        taken, kept = activate(i, "sigmoid"), activate(r, "sigmoid")
        log_decay = steep * kept
        decay, root = tl.exp(log_decay), tl.sqrt(room(log_decay))
        factor = tl.where(is_first, 1.0, root)
        into_input = into_out * factor * value * slope(i, "sigmoid")
        into_room = tl.where(is_first, 0.0, into_out * taken * value / tl.maximum(2.0 * root, 1.0 / STEEPEST))
        into_log = (into_decay - 2.0 * decay * into_room) * decay
        into_gate = into_log * steep * slope(r, "sigmoid")
        share_input += into_input
        share_decay += into_gate
        share_rate += tl.where(inside, -SHARPNESS * into_log * kept, 0.0)
        tl.store(du + row * C + col, (into_out * factor * taken).to(du.dtype.element_ty), mask=inside)
        tl.store(dinput_gate + at, into_input.to(dinput_gate.dtype.element_ty), mask=inside)
        tl.store(ddecay_gate + at, into_gate.to(ddecay_gate.dtype.element_ty), mask=inside)
    share = tl.program_id(0).to(tl.int64) * C + col
    many = tl.num_programs(0).to(tl.int64) * C
    tl.store(shares + share, tl.sum(share_input, 0)[None, :], mask=col < C)
    tl.store(shares + many + share, tl.sum(share_decay, 0)[None, :], mask=col < C)
    tl.store(shares + 2 * many + share, tl.sum(share_rate, 0)[None, :], mask=col < C)
