"""The Triton short convolution as a custom operator: `evo::short_convolution` and its gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.convolution.triton import short as kernels
from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.triton_support import dense, last_dim_contiguous

WARPS = 2112  # that a cut leaves where it can: sixteen on each multiprocessor of an H100


@dataclass(frozen=True)
class Cut:
    """A program's channels and warps, tokens loaded at once, and the fewest and most tokens of its strip."""

    cols: int
    warps: int
    step: int
    shortest: int
    longest: int

    def of(self, x: Tensor) -> tuple[int, int, int, int]:
        """Channels and tokens of a program, and how many programs lie along the width and along the time.

        Strips are long, to read little twice, where that leaves enough of them.
        """
        B, T, D = x.shape
        cols = min(self.cols, max(32, 1 << (D - 1).bit_length()))
        columns = -(-D // cols)
        tokens = T * columns * B * self.warps // WARPS // self.step * self.step
        tokens = max(self.shortest, min(self.longest, tokens))
        return cols, tokens, columns, -(-T // tokens)


# The fastest of those tried on an H100, bf16 and four taps: four channels a thread, or two where taps are many.
FORWARD = Cut(128, 1, 8, 8, 16)
BACK, BACK_OF_MANY = Cut(256, 2, 4, 16, 128), Cut(128, 2, 4, 16, 128)


@operator("short_convolution", folds(Fold((0, None, None, 0, 0), (0, 0)), Fold((2, 0, 0, 2), (2, 2))))
def short_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None, numbers: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    """y (B, T, D) and the new state (B, W-1, D), both in x's dtype. `numbers`: document numbers, int32 (B, T)."""
    x = last_dim_contiguous(x)
    weight, bias, state, numbers = map(dense, (weight, bias, state, numbers))
    B, T, D = x.shape
    W = weight.shape[1]
    y = torch.empty(B, T, D, dtype=x.dtype, device=x.device)
    final = torch.empty(B, W - 1, D, dtype=x.dtype, device=x.device)
    if T == 0:
        return y, final.zero_() if state is None else final.copy_(state)
    if y.numel():
        cols, tokens, columns, strips = FORWARD.of(x)
        kernels.forward[(columns, strips, B)](
            x, weight, bias, state, numbers, y, final, *x.stride()[:2], T, tokens, silu, bias is not None,
            state is not None, numbers is not None, D, W, FORWARD.step, cols, num_warps=FORWARD.warps,
        )  # fmt: skip
    return y, final


@short_convolution.register_fake
def _(x, weight, bias, state, numbers, silu):
    B, T, D = x.shape
    return x.new_empty(B, T, D), x.new_empty(B, weight.shape[1] - 1, D)


@operator("short_convolution_backward", folds(Fold((2, 2, 2, 0, 0, 2), (2, 0, 0, 2))))
def short_convolution_backward(
    dy: Tensor, dfinal: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None,
    numbers: Tensor | None, silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dx and dstate in x's dtype, dweight and dbias float32; dbias and dstate are empty where there is none of them."""
    x, dy = last_dim_contiguous(x), last_dim_contiguous(dy)
    dfinal, weight, bias, state, numbers = map(dense, (dfinal, weight, bias, state, numbers))
    B, T, D = x.shape
    W = weight.shape[1]
    dx = torch.empty(B, T, D, dtype=x.dtype, device=x.device)
    dstate = torch.empty((B, W - 1, D) if state is not None else 0, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        dbias = weight.new_zeros(D if bias is not None else 0, dtype=torch.float32)
        dstate = dstate if state is None or dfinal is None else dstate.copy_(dfinal)
        return dx, torch.zeros_like(weight, dtype=torch.float32), dbias, dstate
    cut = BACK if W <= 4 else BACK_OF_MANY
    cols, tokens, columns, strips = cut.of(x)
    has = bias is not None, state is not None, numbers is not None, dfinal is not None
    dweight = torch.empty(B, strips, D, W, dtype=torch.float32, device=x.device)
    dbias = torch.empty((B, strips, D) if bias is not None else (1, 1, 0), dtype=torch.float32, device=x.device)
    kernels.gradients[(columns, strips, B)](
        dy, dfinal, x, weight, bias, state, numbers, dx, dstate, dweight, dbias, *dy.stride()[:2], *x.stride()[:2],
        T, tokens, silu, *has, D, W, cut.step, cols, num_warps=cut.warps,
    )  # fmt: skip
    return dx, dweight.sum((0, 1)), dbias.sum((0, 1)), dstate


@short_convolution_backward.register_fake
def _(dy, dfinal, x, weight, bias, state, numbers, silu):
    D, W = weight.shape
    dbias = x.new_empty(0 if bias is None else D, dtype=torch.float32)
    dstate = x.new_empty(0) if state is None else x.new_empty(x.shape[0], W - 1, D)
    return x.new_empty(x.shape), x.new_empty(D, W, dtype=torch.float32), dbias, dstate


def _save(ctx, inputs, output):
    x, weight, bias, state, numbers, ctx.silu = inputs
    ctx.save_for_backward(x, weight, bias, state, numbers)
    ctx.set_materialize_grads(False)


def _backward(ctx, dy, dfinal):
    x, weight, bias, state, numbers = ctx.saved_tensors
    dy = torch.zeros_like(x) if dy is None else dy
    dx, dweight, dbias, dstate = short_convolution_backward(dy, dfinal, x, weight, bias, state, numbers, ctx.silu)
    dbias = None if bias is None else dbias.to(bias.dtype)
    dstate = None if state is None else dstate.to(state.dtype)
    return dx, dweight.to(weight.dtype), dbias, dstate, None, None


short_convolution.register_autograd(_backward, setup_context=_save)
