"""Triton kernels: cross-entropy of rows of logits and its gradient, with a soft cap, in the logits' own dtype."""

import triton
import triton.language as tl


@triton.jit
def capped(x, cap, CAP: tl.constexpr):
    """cap * tanh(x / cap) by the exponential of what is never positive; x without a cap."""
    if not CAP:
        return x
    small = tl.exp(-2.0 * tl.abs(x) / cap)
    size = cap * (1.0 - small) / (1.0 + small)
    return tl.where(x < 0, -size, size)


@triton.jit(do_not_specialize=["rows"])
def entropy_forward(
    logits, targets, loss, lse, rows, V, stride, cap, CAP: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr
):
    """loss and log-sum-exp (rows,) float32, one pass over logits (rows, V) with dense columns."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    peak = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for start in range(0, V, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        inside = (row[:, None] < rows) & (col < V)
        x = capped(tl.load(logits + row[:, None] * stride + col, mask=inside, other=0.0).to(tl.float32), cap, CAP)
        x = tl.where(col < V, x, float("-inf"))
        new = tl.maximum(peak, tl.max(x, 1))
        total = total * tl.exp(peak - new) + tl.sum(tl.exp(x - new[:, None]), 1)
        peak = new
    target = tl.load(targets + row, mask=row < rows, other=0)
    aimed = tl.load(logits + row * stride + target, mask=row < rows, other=0.0).to(tl.float32)
    whole = peak + tl.log(total)
    tl.store(lse + row, whole, mask=row < rows)
    tl.store(loss + row, whole - capped(aimed, cap, CAP), mask=row < rows)


@triton.jit(do_not_specialize=["rows"])
def entropy_backward(
    logits, targets, lse, shares, dloss, dlogits, rows, V, stride, cap, scale,
    CAP: tl.constexpr, SHARES: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """dlogits (rows, V) dense: (softmax - one at the target) * dloss * scale, through the cap; SHARES (rows,) float32
    stand in for the scale."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    inside = (row < rows) & (col < V)
    x = capped(tl.load(logits + row * stride + col, mask=inside, other=0.0).to(tl.float32), cap, CAP)
    weight = tl.exp(x - tl.load(lse + row, mask=row < rows, other=0.0))
    target = tl.load(targets + row, mask=row < rows, other=0)
    if SHARES:
        scale = tl.load(shares + row, mask=row < rows, other=0.0)
    d = (weight - tl.where(col == target, 1.0, 0.0)) * (tl.load(dloss) * scale)
    if CAP:
        d *= 1.0 - (x / cap) * (x / cap)
    tl.store(dlogits + row * V + col, d.to(dlogits.dtype.element_ty), mask=inside)
