"""Triton kernels: rows laid down in another order, their weighed sums in the old one, and scalar products of both.

What there is one of for each row is loaded as a vector and then given columns: as a column, each thread would load it
once for every column that it holds.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["R", "top", "weighs"])
def permute(x, out, shift, shares, R, top, weighs, D, ROWS: tl.constexpr, COLS: tl.constexpr):
    """out (R, D): at place r + shift[r] row r // top of x (R // top, D), times shares[r] if it `weighs`; all dense."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside = (r < R)[:, None] & (col < D)
    at = (r + tl.load(shift + r, mask=r < R, other=0)) * D
    token = (r // top).to(tl.int64) * D
    share = tl.load(shares + r, mask=(r < R) & (weighs != 0), other=1.0).to(tl.float32)
    row = tl.load(x + token[:, None] + col, mask=inside, other=0.0).to(tl.float32) * share[:, None]
    tl.store(out + at[:, None] + col, row.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["N", "top", "weighs"])
def unpermute(y, out, shift, shares, N, top, weighs, D, ROWS: tl.constexpr, COLS: tl.constexpr):
    """out (N, D): the sum of rows n top + p of y (N top, D), which lie `shift` behind, times shares if it `weighs`.

    A few turns of the loop are one, so that their loads do not wait for each other.
    """
    n = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside = (n < N)[:, None] & (col < D)
    total = tl.zeros((ROWS, COLS), tl.float32)
    for p in tl.range(top, loop_unroll_factor=4):
        r = n * top + p
        at = (r + tl.load(shift + r, mask=n < N, other=0)) * D
        share = tl.load(shares + r, mask=(n < N) & (weighs != 0), other=1.0).to(tl.float32)
        total += tl.load(y + at[:, None] + col, mask=inside, other=0.0).to(tl.float32) * share[:, None]
    tl.store(out + n.to(tl.int64)[:, None] * D + col, total.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["R", "top"])
def row_dots(x, y, shift, out, R, top, D, ROWS: tl.constexpr, COLS: tl.constexpr):
    """out (R,): the scalar product of row r // top of x (R // top, D) and row r + shift[r] of y (R, D)."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    at = (r + tl.load(shift + r, mask=r < R, other=0)) * D
    token = (r // top).to(tl.int64) * D
    total = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, D, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        inside = (r < R)[:, None] & (col < D)
        a = tl.load(x + token[:, None] + col, mask=inside, other=0.0).to(tl.float32)
        total += a * tl.load(y + at[:, None] + col, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + r, tl.sum(total, 1).to(out.dtype.element_ty), mask=r < R)
