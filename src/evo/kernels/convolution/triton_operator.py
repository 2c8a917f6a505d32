"""The Triton short convolution as a custom operator: `evo::short_convolution` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.convolution import triton_short
from evo.kernels.convolution.problem import ConvolutionProblem
from evo.kernels.documents import document_numbers
from evo.kernels.triton_support import is_interpreting, rowwise

PARTS = 1056  # programs that sum gradients of the taps: eight on each multiprocessor of an H100
WARPS = 8


def _dense(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.contiguous() for x in tensors]


def _tile(time: int, width: int) -> tuple[int, int]:
    """Tokens and channels of a tile: eight numbers a thread, which keeps the chip full of loads."""
    rows = 64 if is_interpreting() else 16
    return min(rows, 1 << (time - 1).bit_length()), min(128, max(16, 1 << (width - 1).bit_length()))


@torch.library.custom_op("evo::short_convolution", mutates_args=())
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
        rows, cols = _tile(T, D)
        triton_short.forward[(-(-D // cols), -(-T // rows), B)](
            x, weight, bias, state, numbers, y, final, *x.stride()[:2], T, silu, bias is not None, state is not None,
            numbers is not None, D, W, rows, cols, num_warps=WARPS,
        )  # fmt: skip
    return y, final


@short_convolution.register_fake
def _(x, weight, bias, state, numbers, silu):
    B, T, D = x.shape
    return x.new_empty(B, T, D), x.new_empty(B, weight.shape[1] - 1, D)


@torch.library.custom_op("evo::short_convolution_backward", mutates_args=())
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
    rows, cols = _tile(T, D)
    columns, whole = -(-D // cols), -(-T // rows)
    tiles = max(1, whole * columns * B // PARTS)
    parts = -(-whole // tiles)
    has = bias is not None, state is not None, numbers is not None
    slope = torch.empty(B, T, D, dtype=x.dtype, device=x.device) if silu else dy
    dweight = torch.empty(B, parts, D, W, dtype=torch.float32, device=x.device)
    dbias = torch.empty((B, parts, D) if bias is not None else (1, 1, 0), dtype=torch.float32, device=x.device)
    triton_short.tap_gradients[(columns, parts, B)](
        dy, x, weight, bias, state, numbers, slope, dweight, dbias, *dy.stride()[:2], *x.stride()[:2], T, tiles,
        silu, *has, D, W, rows, cols, num_warps=WARPS,
    )  # fmt: skip
    whole = -(-(T + dstate.shape[1]) // rows) if state is not None else whole
    triton_short.input_gradients[(columns, whole, B)](
        slope, dfinal, weight, numbers, dx, dstate, *slope.stride()[:2], T, *has[1:], dfinal is not None,
        D, W, rows, cols, num_warps=WARPS,
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
