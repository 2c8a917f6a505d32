"""Weights between the tokens of a chunk by decays of channels, exp(upto_x[t] - upto_y[s]) for s <= t: sums with them.

The lower triangle goes by halves: a block of 2h rows is two blocks of h rows and the square between them, a product of
matrices about the pivot where the first half ends, which lies between every s and every t of it. So only exponentials
of numbers below 0 are taken. With A[t, s] = sum_k x[t, k] w[t, s, k] y[s, k] for weights w, gradients are sums of the
same kind, and that of a log of a weight is x dx for the late token and -y dy for the early one: autograd would record
each level instead, and fill and add whole tensors for every half.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator


def halves(x_CX: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """First and second halves, (..., h, X), of blocks of 2h rows."""
    blocks = x_CX.unflatten(-2, (-1, 2, half))
    # not `unbind`: autograd lets nobody write into one of several views, as an exported program does
    return blocks.select(-3, 0), blocks.select(-3, 1)


def squares(scores_CC: Tensor, half: int) -> Tensor:
    """Of blocks of 2h rows, the squares (..., h, h) in which the second half meets the first one: a view."""
    late = scores_CC.unflatten(-2, (-1, 2, half)).select(-3, 1)
    met = late.unflatten(-1, (-1, 2, half)).select(-2, 0)
    return met.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def levels(upto_x: Tensor, upto_y: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """h, and what weighs second halves and first ones, for each size of blocks."""
    half = 1
    while half < upto_x.shape[-2]:
        _, late = halves(upto_x, half)
        early, _ = halves(upto_y, half)
        pivot = early[..., -1:, :]
        yield half, (late - pivot).exp_(), (pivot - early).exp_()
        half *= 2


@operator("decayed_scores", folds(Fold((1, 1, 1, 1), (1,))))
def decayed_scores(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    """A[t, s] = sum_k x[t, k] w[t, s, k] y[s, k] for s <= t (s < t when strict), else 0: (S, B, ..., C, C).

    x, y (S, B, ..., C, K), upto_x, upto_y (1, B, ..., C, K), one and the same unless strict; S may be 1 in x or in y.
    """
    wide = torch.broadcast_tensors(x, y)[0].shape  # torch.broadcast_shapes would import sympy, for seconds
    scores = x.new_zeros(*wide[:-1], wide[-2])
    if not strict:
        scores.diagonal(dim1=-2, dim2=-1).copy_((x * y).sum(-1))
    for half, late, early in levels(upto_x, upto_y):
        x_late, y_early = halves(x, half)[1] * late, halves(y, half)[0] * early
        squares(scores, half).copy_(x_late @ y_early.transpose(-1, -2))
    return scores


@decayed_scores.register_fake
def _(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    wide = torch.broadcast_tensors(x, y)[0].shape
    return x.new_empty(*wide[:-1], wide[-2])


@operator("decayed_scores_gradients", folds(Fold((1, 1, 1, 1, 1), (1, 1, 1, 1))))
def _scores_gradients(
    dscores: Tensor, x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of x, y and what weighs them."""
    x_wide, y_wide = torch.broadcast_tensors(x, y)
    own = dscores.diagonal(dim1=-2, dim2=-1)[..., None]
    dx, dy = (x.new_zeros(x_wide.shape), x.new_zeros(x_wide.shape)) if strict else (own * y, own * x)
    for half, late, early in levels(upto_x, upto_y):
        met = squares(dscores, half)
        x_late, y_early = halves(x, half)[1] * late, halves(y, half)[0] * early
        halves(dx, half)[1].addcmul_(met @ y_early, late)
        halves(dy, half)[0].addcmul_(met.transpose(-1, -2) @ x_late, early)
    into_x, into_y = ((z * dz).sum_to_size(upto_x.shape) for z, dz in ((x_wide, dx), (y_wide, dy)))
    return dx.sum_to_size(x.shape), dy.sum_to_size(y.shape), into_x, into_y.neg_()


@_scores_gradients.register_fake
def _(dscores: Tensor, *given: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in given[:4])


@operator("decayed_sums", folds(Fold((0, 0, 0), (0,))))
def decayed_sums(scores: Tensor, y: Tensor, upto: Tensor) -> Tensor:
    """o[t, v] = sum over s <= t of A[t, s] w[t, s, v] y[s, v]: (B, ..., C, V), of A (B, ..., C, C), the upper triangle
    of which is not read, and y, upto (B, ..., C, V)."""
    o = scores.diagonal(dim1=-2, dim2=-1)[..., None] * y
    for half, late, early in levels(upto, upto):
        halves(o, half)[1].addcmul_(squares(scores, half) @ (halves(y, half)[0] * early), late)
    return o


@decayed_sums.register_fake
def _(scores: Tensor, y: Tensor, upto: Tensor) -> Tensor:
    return torch.empty_like(y)


@operator("decayed_sums_gradients", folds(Fold((0, 0, 0, 0, 0), (0, 0, 0))))
def _sums_gradients(do: Tensor, o: Tensor, scores: Tensor, y: Tensor, upto: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the scores, y and what weighs them."""
    dscores = torch.zeros_like(scores)
    dscores.diagonal(dim1=-2, dim2=-1).copy_((do * y).sum(-1))
    dy = scores.diagonal(dim1=-2, dim2=-1)[..., None] * do
    for half, late, early in levels(upto, upto):
        do_late, y_early = halves(do, half)[1] * late, halves(y, half)[0] * early
        squares(dscores, half).copy_(do_late @ y_early.transpose(-1, -2))
        halves(dy, half)[0].addcmul_(squares(scores, half).transpose(-1, -2) @ do_late, early)
    return dscores, dy, (do * o).sub_(y * dy)


@_sums_gradients.register_fake
def _(do: Tensor, o: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in given)


def _save_scores(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *given, ctx.strict = inputs
    ctx.save_for_backward(*given)


def _scores_backward(ctx: Any, dscores: Tensor) -> tuple[Any, ...]:
    return *_scores_gradients(dscores, *ctx.saved_tensors, ctx.strict), None


def _save_sums(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs)


def _sums_backward(ctx: Any, do: Tensor) -> tuple[Tensor, ...]:
    return _sums_gradients(do, *ctx.saved_tensors)


decayed_scores.register_autograd(_scores_backward, setup_context=_save_scores)
decayed_sums.register_autograd(_sums_backward, setup_context=_save_sums)
