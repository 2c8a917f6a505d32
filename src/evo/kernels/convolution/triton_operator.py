"""The Triton short convolution as a custom operator: `evo::short_convolution` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.convolution import triton_short
from evo.kernels.convolution.problem import ConvolutionProblem
from evo.kernels.documents import document_numbers
from evo.kernels.operators import operator
from evo.kernels.triton_support import rowwise

PROGRAMS = 2112  # of one warp: sixteen on each multiprocessor of an H100
STEP = 4  # tokens whose loads are under way at once
SHORTEST, LONGEST = 16, 128  # tokens of a strip


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.contiguous() for x in tensors]


def _cut(x: Tensor, cols: int) -> tuple[int, int, int, int]:
    """Channels and tokens of a program, and how many programs lie along the width and along the time.

    Strips are long, to read little twice, where that leaves enough of them.
    """
    B, T, D = x.shape
    cols = min(cols, max(32, 1 << (D - 1).bit_length()))
    columns = -(-D // cols)
    tokens = max(SHORTEST, min(LONGEST, T * columns * B // PROGRAMS) // STEP * STEP)
    return cols, tokens, columns, -(-T // tokens)


@operator("short_convolution")
def short_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None, numbers: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    """y (B, T, D) and the new state (B, W-1, D), both in x's dtype. `numbers`: document numbers, int32 (B, T)."""
    x = rowwise(x)
    weight, bias, state, numbers = _dense(weight, bias, state, numbers)
    B, T, D = x.shape
    W = weight.shape[1]
    y = torch.empty(B, T, D, dtype=x.dtype, device=x.device)
    final = torch.empty(B, W - 1, D, dtype=x.dtype, device=x.device)
    if T == 0:
        return y, final.zero_() if state is None else final.copy_(state)
    if y.numel():
        cols, tokens, columns, strips = _cut(x, 256)
        triton_short.forward[(columns, strips, B)](
            x, weight, bias, state, numbers, y, final, *x.stride()[:2], T, tokens, silu, bias is not None,
            state is not None, numbers is not None, D, W, STEP, cols, num_warps=1,
        )  # fmt: skip
    return y, final


@short_convolution.register_fake
def _(x, weight, bias, state, numbers, silu):
    B, T, D = x.shape
    return x.new_empty(B, T, D), x.new_empty(B, weight.shape[1] - 1, D)


@operator("short_convolution_backward")
def short_convolution_backward(
    dy: Tensor, dfinal: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None,
    numbers: Tensor | None, silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dx and dstate in x's dtype, dweight and dbias float32; dbias and dstate are empty where there is none of them."""
    x, dy = rowwise(x), rowwise(dy)
    dfinal, weight, bias, state, numbers = _dense(dfinal, weight, bias, state, numbers)
    B, T, D = x.shape
    W = weight.shape[1]
    dx = torch.empty(B, T, D, dtype=x.dtype, device=x.device)
    dstate = torch.empty((B, W - 1, D) if state is not None else 0, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        dbias = weight.new_zeros(D if bias is not None else 0, dtype=torch.float32)
        dstate = dstate if state is None or dfinal is None else dstate.copy_(dfinal)
        return dx, torch.zeros_like(weight, dtype=torch.float32), dbias, dstate
    cols, tokens, columns, strips = _cut(x, 128 if W <= 4 else 64)
    has = bias is not None, state is not None, numbers is not None, dfinal is not None
    dweight = torch.empty(B, strips, D, W, dtype=torch.float32, device=x.device)
    dbias = torch.empty((B, strips, D) if bias is not None else (1, 1, 0), dtype=torch.float32, device=x.device)
    triton_short.gradients[(columns, strips, B)](
        dy, dfinal, x, weight, bias, state, numbers, dx, dstate, dweight, dbias, *dy.stride()[:2], *x.stride()[:2],
        T, tokens, silu, *has, D, W, STEP, cols, num_warps=1,
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


def run(problem: ConvolutionProblem, x: Tensor, weight: Tensor, *, parts: dict) -> tuple[Tensor, Tensor]:
    """The signature that all backends share."""
    segments_BT = parts["segments_BT"]
    numbers = None if segments_BT is None else document_numbers(segments_BT)
    return short_convolution(x, weight, parts["bias_D"], parts["state_BWD"], numbers, problem.activation == "silu")
