"""Loading and storing rows of matrices whose width is not a power of two, inside Triton kernels."""

import triton
import triton.language as tl


@triton.jit
def load_rows(base, rows, stride, limit, DIM: tl.constexpr, PADDED: tl.constexpr, MASKED: tl.constexpr):
    """Rows (R, PADDED) of a (limit, DIM) matrix whose last stride is 1; what lies outside is 0."""
    cols = tl.arange(0, PADDED)
    at = base + rows[:, None].to(tl.int64) * stride + cols[None, :]
    if MASKED:
        return tl.load(at, mask=(rows[:, None] < limit) & (cols[None, :] < DIM), other=0.0)
    if DIM == PADDED:
        return tl.load(at)
    return tl.load(at, mask=cols[None, :] < DIM, other=0.0)


@triton.jit
def store_rows(base, tile, rows, stride, limit, DIM: tl.constexpr, PADDED: tl.constexpr):
    """The inverse of a masked `load_rows`."""
    cols = tl.arange(0, PADDED)
    at = base + rows[:, None].to(tl.int64) * stride + cols[None, :]
    tl.store(at, tile.to(base.dtype.element_ty), mask=(rows[:, None] < limit) & (cols[None, :] < DIM))
