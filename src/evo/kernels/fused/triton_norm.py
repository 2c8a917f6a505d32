"""Triton kernels: x + y and its RMS or layer norm in one pass, and the backward of both in one pass."""

# pyright: reportGeneralTypeIssues=false
# What `triton.jit` returns is typed as never returning.

import triton
import triton.language as tl


@triton.jit
def hat(total, cols_mask, D, eps, CENTER: tl.constexpr):
    """(ROWS, PADDED) float32 -> normalised rows and their scale (ROWS, 1)."""
    if CENTER:
        mean = tl.sum(total, 1)[:, None] / D
        total = tl.where(cols_mask, total - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(total * total, 1)[:, None] / D + eps)
    return total * scale, scale


@triton.jit(do_not_specialize=["rows"])
def norm_forward(
    x, y, gain, bias, total, out, rows, D, eps,
    ADD: tl.constexpr, CENTER: tl.constexpr, BIAS: tl.constexpr, ROWS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """total = x + y (kept if ADD) and out = norm(total) * gain + bias; all dense (rows, D)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, PADDED)[None, :]
    inside, at = (row < rows) & (col < D), row * D + col
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
        kept = value.to(total.dtype.element_ty)
        tl.store(total + at, kept, mask=inside)
        value = kept.to(tl.float32)
    normed, _ = hat(value, col < D, D, eps, CENTER)
    result = normed * tl.load(gain + col, mask=col < D, other=0.0).to(tl.float32)
    if BIAS:
        result += tl.load(bias + col, mask=col < D, other=0.0).to(tl.float32)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "tiles"])
def norm_backward(
    dout, dtotal, total, gain, dx, dy, dgain, dbias, rows, D, eps, tiles,
    SUM: tl.constexpr, SPLIT: tl.constexpr, CENTER: tl.constexpr, BIAS: tl.constexpr,
    ROWS: tl.constexpr, PADDED: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """dx (and dy in y's dtype if SPLIT) of `tiles` tiles a program, and its share of dgain and dbias, (programs, D).

    SUM: what flows back into the sum itself is added. UNIT: how many neighbours a thread takes, the same number of
    every tensor, so that no value moves between threads; all loads are under way before the first sum.
    """
    col = tl.max_contiguous(tl.arange(0, PADDED), UNIT)[None, :]
    weight = tl.load(gain + col, mask=col < D, other=0.0).to(tl.float32)
    share_gain = tl.zeros((ROWS, PADDED), tl.float32)
    share_bias = tl.zeros((ROWS, PADDED), tl.float32)
    for tile in range(tiles):
        row = (tl.program_id(0).to(tl.int64) * tiles + tile) * ROWS + tl.arange(0, ROWS)[:, None]
        inside, at = (row < rows) & (col < D), row * D + col
        value = tl.load(total + at, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(dout + at, mask=inside, other=0.0).to(tl.float32)
        through = tl.zeros((ROWS, PADDED), tl.float32)
        if SUM:
            through = tl.load(dtotal + at, mask=inside, other=0.0).to(tl.float32)
        normed, scale = hat(value, col < D, D, eps, CENTER)
        share_gain += g * normed
        if BIAS:
            share_bias += g
        g *= weight
        along = tl.sum(g * normed, 1)[:, None] / D
        result = g - normed * along
        if CENTER:
            result -= tl.sum(g, 1)[:, None] / D
        result = result * scale + through
        tl.store(dx + at, result.to(dx.dtype.element_ty), mask=inside)
        if SPLIT:
            tl.store(dy + at, result.to(dy.dtype.element_ty), mask=inside)
    share = tl.program_id(0) * D + col
    tl.store(dgain + share, tl.sum(share_gain, 0)[None, :], mask=col < D)
    if BIAS:
        tl.store(dbias + share, tl.sum(share_bias, 0)[None, :], mask=col < D)


@triton.jit(do_not_specialize=["programs"])
def column_sums(shares, sums, programs, D, ROWS: tl.constexpr, COLS: tl.constexpr):
    """sums (D,) of shares (programs, D), float32; a second row of programs does the next such matrix."""
    shares += tl.program_id(1) * programs * D
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)[None, :]
    total = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, programs, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        total += tl.load(shares + row * D + col, mask=(row < programs) & (col < D), other=0.0)
    tl.store(sums + tl.program_id(1) * D + col, tl.sum(total, 0)[None, :], mask=col < D)
