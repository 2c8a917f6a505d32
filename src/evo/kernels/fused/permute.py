"""Rows in the order of what each meets, and back: what stands around the grouped products of routed experts.

Both are as in Megatron-Core (Shoeybi et al. 2019, arXiv 1909.08053), whose words these are: a token's row is laid down
once for each of its choices, and what the choices give is summed, weighed. Each is the other's gradient. Every place
is written once and every sum has one order, so that both repeat their bytes.
"""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.fused.support import AUTO, chosen, table, tile_rows
from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.triton_support import next_pow2

COLS = 512
"""The widest tile of a copy. Sums along rows are over twice as many columns at once."""
SIDE_BY_SIDE = folds(Fold((0, 0, 0), (0,)))
"""Shifts stay what they are where members' rows lie one after another."""


@dataclass(frozen=True)
class Permutation:
    """An order of R rows. Rows are counted token by token: row n P + p is that of token n's choice p.

    order_R: int64, the row that stands at each place. inverse_R: the place of each row. shift_R: how far behind the
    place that has a row's own number it stands.
    """

    order_R: Tensor
    inverse_R: Tensor
    shift_R: Tensor

    @classmethod
    def of(cls, order_R: Tensor) -> Permutation:
        """By the row at each place, each of which is there once."""
        at_R = torch.arange(order_R.shape[0], device=order_R.device)
        inverse_R = torch.scatter(order_R, 0, order_R, at_R)
        return cls(order_R, inverse_R, inverse_R - at_R)


def permute(x_NX: Tensor, rows: Permutation, shares_NP: Tensor | None = None, *, backend: str = AUTO) -> Tensor:
    """Rows of x in an order of their R = N P copies, (R, X) in x's dtype.

    shares_NP: what each copy is multiplied by, if anything.
    """
    return chosen(PERMUTE, x_NX, backend)(x_NX, rows, None if shares_NP is None else shares_NP.to(x_NX.dtype))


def unpermute(y_RX: Tensor, rows: Permutation, shares_NP: Tensor | None = None, *, backend: str = AUTO) -> Tensor:
    """The weighed sum of each token's P rows, (N, X) in y's dtype; without shares all rows as they were, (R, X).

    Sums are taken in float32 at least.
    """
    return chosen(UNPERMUTE, y_RX, backend)(y_RX, rows, None if shares_NP is None else shares_NP.to(y_RX.dtype))


def _permuted(x_NX: Tensor, rows: Permutation, shares_NP: Tensor | None) -> Tensor:
    return _permute(x_NX, rows.shift_R, shares_NP)


def _plain_permuted(x_NX: Tensor, rows: Permutation, shares_NP: Tensor | None) -> Tensor:
    copies = rows.order_R.shape[0] // max(1, x_NX.shape[0])
    x_NPX = x_NX[:, None].expand(-1, copies, -1) if shares_NP is None else x_NX[:, None] * shares_NP[..., None]
    return x_NPX.flatten(0, 1).index_select(0, rows.order_R)


def _unpermuted(y_RX: Tensor, rows: Permutation, shares_NP: Tensor | None) -> Tensor:
    return _unpermute(y_RX, rows.shift_R, shares_NP, 1 if shares_NP is None else shares_NP.shape[1])


def _plain_unpermuted(y_RX: Tensor, rows: Permutation, shares_NP: Tensor | None) -> Tensor:
    y_RX = y_RX.index_select(0, rows.inverse_R)
    return y_RX if shares_NP is None else (y_RX.unflatten(0, shares_NP.shape) * shares_NP[..., None]).sum(1)


def _tile(width: int, cols: int = COLS) -> tuple[int, int]:
    """Rows and columns of a tile."""
    cols = min(cols, next_pow2(width))
    return tile_rows(cols), cols


@operator("permute", SIDE_BY_SIDE)
def _permute(x: Tensor, shift: Tensor, shares: Tensor | None) -> Tensor:
    """Row n P + p, which is x[n] times its share, lies `shift` behind its own place."""
    from evo.kernels.fused import triton_permute

    x, shift = x.contiguous(), shift.contiguous()
    (N, D), R = x.shape, shift.shape[0]
    out = torch.empty(R, D, dtype=x.dtype, device=x.device)
    rows, cols = _tile(D)
    triton_permute.permute[(-(-R // rows), -(-D // cols))](
        x, out, shift, x if shares is None else shares.contiguous(), R, R // N, int(shares is not None), D, rows, cols
    )
    return out


@_permute.register_fake
def _(x, shift, shares):
    return x.new_empty(shift.shape[0], x.shape[1])


@operator("unpermute", SIDE_BY_SIDE)
def _unpermute(y: Tensor, shift: Tensor, shares: Tensor | None, top: int) -> Tensor:
    """The sum of `top` such rows of each token, times their shares."""
    from evo.kernels.fused import triton_permute

    y, shift = y.contiguous(), shift.contiguous()
    R, D = y.shape
    out = torch.empty(R // top, D, dtype=y.dtype, device=y.device)
    rows, cols = _tile(D)
    triton_permute.unpermute[(-(-(R // top) // rows), -(-D // cols))](
        y, out, shift, y if shares is None else shares.contiguous(), R // top, top, int(shares is not None), D,
        rows, cols,
    )  # fmt: skip
    return out


@_unpermute.register_fake
def _(y, shift, shares, top):
    return y.new_empty(y.shape[0] // top, y.shape[1])


@operator("row_dots", SIDE_BY_SIDE)
def _row_dots(x: Tensor, y: Tensor, shift: Tensor) -> Tensor:
    """The scalar product of x[n] and each of its rows in y, (R,) in x's dtype: the gradient of shares."""
    from evo.kernels.fused import triton_permute

    x, y, shift = x.contiguous(), y.contiguous(), shift.contiguous()
    R, D = y.shape
    out = torch.empty(R, dtype=x.dtype, device=x.device)
    rows, cols = _tile(D, 2 * COLS)
    triton_permute.row_dots[(-(-R // rows),)](x, y, shift, out, R, R // x.shape[0], D, rows, cols)
    return out


@_row_dots.register_fake
def _(x, y, shift):
    return x.new_empty(y.shape[0])


def _save_permute(ctx, inputs, output):
    x, shift, shares = inputs
    ctx.top = shift.shape[0] // x.shape[0]
    ctx.save_for_backward(x if ctx.needs_input_grad[2] else None, shift, shares)


def _permute_backward(ctx, dout):
    x, shift, shares = ctx.saved_tensors
    dx = _unpermute(dout, shift, shares, ctx.top) if ctx.needs_input_grad[0] else None
    return dx, None, _row_dots(x, dout, shift).view(shares.shape) if ctx.needs_input_grad[2] else None


def _save_unpermute(ctx, inputs, output):
    y, shift, shares, _ = inputs
    ctx.save_for_backward(y if ctx.needs_input_grad[2] else None, shift, shares)


def _unpermute_backward(ctx, dout):
    y, shift, shares = ctx.saved_tensors
    dy = _permute(dout, shift, shares) if ctx.needs_input_grad[0] else None
    return dy, None, _row_dots(dout, y, shift).view(shares.shape) if ctx.needs_input_grad[2] else None, None


_permute.register_autograd(_permute_backward, setup_context=_save_permute)
_unpermute.register_autograd(_unpermute_backward, setup_context=_save_unpermute)

PERMUTE = table("permute", _permuted, _plain_permuted)
UNPERMUTE = table("unpermute", _unpermuted, _plain_unpermuted)
