"""Tiles of logits and of the mask, as the attention kernels share them."""

import triton
import triton.language as tl

from evo.kernels.attention.triton_reads import LOG2E
from evo.kernels.attention.triton_tiles import BLOCK, DILATED, FULL, PREFIX, WINDOW


@triton.jit
def seen(at_m, at_n, keys, size, sinks, dilation, period, KIND: tl.constexpr, CAUSAL: tl.constexpr):
    """Mask (M, N) of `Stencil.allows`, from query positions (M, 1) and key positions (1, N); or (N, M), both turned."""
    ahead = at_m - at_n
    distance = ahead if CAUSAL else tl.abs(ahead)
    open_ = at_n < keys
    if KIND != FULL and KIND != PREFIX:
        if KIND == WINDOW:
            near = distance < size
        elif KIND == DILATED:
            near = (distance < size * dilation) & (distance % dilation == 0)
        elif KIND == BLOCK:
            near = (at_m // size) == (at_n // size)
        else:
            turn = distance % period
            if not CAUSAL:
                turn = tl.minimum(turn, (period - turn) % period)
            near = turn < size
        open_ = open_ & (near | (at_n < sinks))
    if CAUSAL:
        past = ahead >= 0
        if KIND == PREFIX:
            past = past | (at_n < size)
        open_ = open_ & past
    return open_


@triton.jit
def logits(
    a, b, at_m, at_n, tilt, scale, cap, slope,
    CAP: tl.constexpr, ALIBI: tl.constexpr, FOLDED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Logits a b^T as x and the factor that brings x to units of log 2, and the soft cap's slope (1 without a cap).

    The factor is left to be fused into an exponential. `slope` is in units of log 2. FOLDED: each seen key lies at or
    before its query, and slope (m - origin) is added to all logits of query m, so that only keys need a term: `tilt`,
    slope (n - origin). It is made of what a loop keeps, since turning integers into floats takes as long as
    exponentials do.
    """
    x = tl.dot(a, tl.trans(b), input_precision=PRECISION)
    steep = 1.0
    unit = scale * LOG2E
    if CAP:
        tanh = 1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2E * scale / cap)) + 1.0)
        steep = 1.0 - tanh * tanh
        x = tanh
        unit = cap * LOG2E
    if ALIBI:
        x = x * unit + (tilt if FOLDED else -slope * tl.abs(at_m - at_n).to(tl.float32))
        unit = 1.0
    return x, unit, steep
