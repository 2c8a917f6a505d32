"""Loading and storing rows of matrices whose width is not a power of two, inside Triton kernels."""

import triton
import triton.language as tl


@triton.jit
def load_rows(base, start, stride, limit, ROWS: tl.constexpr, DIM, PADDED: tl.constexpr, MASKED: tl.constexpr):
    """Rows start..start+ROWS of a (limit, DIM) matrix whose last stride is 1, (ROWS, PADDED); what lies outside is 0.

    Only the start is multiplied in 64 bits: the offsets inside the tile stay the same from tile to tile.
    """
    rows = tl.arange(0, ROWS)[:, None]
    cols = tl.arange(0, PADDED)[None, :]
    at = base + tl.cast(start, tl.int64) * stride + (rows * stride + cols)
    if MASKED:
        return tl.load(at, mask=(rows < limit - start) & (cols < DIM), other=0.0)
    if DIM == PADDED:
        return tl.load(at)
    return tl.load(at, mask=cols < DIM, other=0.0)


@triton.jit
def store_rows(base, tile, start, stride, limit, ROWS: tl.constexpr, DIM, PADDED: tl.constexpr):
    """The inverse of a masked `load_rows`."""
    rows = tl.arange(0, ROWS)[:, None]
    cols = tl.arange(0, PADDED)[None, :]
    at = base + tl.cast(start, tl.int64) * stride + (rows * stride + cols)
    tl.store(at, tile.to(base.dtype.element_ty), mask=(rows < limit - start) & (cols < DIM))
