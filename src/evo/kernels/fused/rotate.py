"""Rotary positions on queries and keys in one launch each way (RoPE, arXiv 2104.09864, rotate_half pairing)."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.packed_grad import columns
from evo.kernels.triton_support import last_dim_contiguous, next_pow2

ROW_ELEMENTS = 1024
SMALLEST = 64
"""Dims of the narrowest tile: narrower heads leave columns empty, and need no kernel of their own."""


def rotate(q_BTHK: Tensor, k_BTGK: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
    """q (B, T, H, K) and k (B, T, G, K) with pairs (i, i + R) turned: (a cos - b sin, b cos + a sin).

    Dims from 2 R on stay. cos and sin: (T, R) float32, dense, no gradient. Always the kernel:
    `evo.blocks.position` holds the plain form.
    """
    return _rotate(q_BTHK, k_BTGK, cos_TR, sin_TR, False)


def rotate_qkv(
    q_BTHK: Tensor, k_BTGK: Tensor, v_BTGV: Tensor, cos_TR: Tensor, sin_TR: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`rotate`, and v as it is. The gradients of all three come back by the packed-gradient contract."""
    return _RotateQKV.apply(q_BTHK, k_BTGK, v_BTGV, cos_TR, sin_TR)  # pyright: ignore[reportReturnType]


@operator("rotate", folds(Fold((0, 0), (0, 0))))
def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """Turned by position, or turned back; dense."""
    q_out, k_out = _empty(q), _empty(k)
    _launch(q, k, None, q_out.flatten(-2), k_out.flatten(-2), None, cos, sin, back)
    return q_out, k_out


@operator("rotate_back_packed", folds(Fold((0, 0, 0), (0,))))
def _rotate_back_packed(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """dq and dk turned back, and dv: (B, T, H K + G K + G V)."""
    packed = _empty_packed(dq, dk, dv)
    _launch(dq, dk, dv, *packed.split([x.shape[2] * x.shape[3] for x in (dq, dk, dv)], -1), cos, sin, True)
    return packed


def _launch(
    q: Tensor, k: Tensor, v: Tensor | None, q_out: Tensor, k_out: Tensor, v_out: Tensor | None,
    cos: Tensor, sin: Tensor, back: bool,
) -> None:  # fmt: skip
    """Fill the outputs, each (B, T, width) with dense columns and tokens evenly apart."""
    from evo.kernels.fused import triton_rotate

    q, k = last_dim_contiguous(q), last_dim_contiguous(k)
    B, T, H, K = q.shape
    G, R = k.shape[2], cos.shape[1]
    values, value_row = (k, k_out) if v is None or v_out is None else (last_dim_contiguous(v), v_out)
    heads, V = (H + G, K) if v is None else (H + G + v.shape[2], v.shape[3])
    pairs = max(SMALLEST // 2, next_pow2(R))
    rows = max(1, ROW_ELEMENTS // pairs)
    strides = [stride for x in (q, k, values) for stride in x.stride()[:3]]
    strides += [x.stride(1) for x in (q_out, k_out, value_row)]
    unit = math.gcd(8, R, K, V, *strides)
    triton_rotate.rotate[(-(-B * T // rows), heads)](
        q, k, values, q_out, k_out, value_row, cos, sin, *(stride // unit for stride in strides),
        B * T, T, H, G, R // unit, K // unit, V // unit, -1.0 if back else 1.0,
        rows, pairs, next_pow2(K - 2 * R) if K > 2 * R else 0, max(SMALLEST, next_pow2(V)), unit,
    )  # fmt: skip


def _empty(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _empty_packed(*parts: Tensor) -> Tensor:
    width = sum(part.shape[2] * part.shape[3] for part in parts)
    return torch.empty(*parts[0].shape[:2], width, dtype=parts[0].dtype, device=parts[0].device)


@_rotate.register_fake
def _(q, k, cos, sin, back):
    return _empty(q), _empty(k)


@_rotate_back_packed.register_fake
def _(dq, dk, dv, cos, sin):
    return _empty_packed(dq, dk, dv)


def _save(ctx, inputs, output):
    _, _, cos, sin, ctx.back = inputs
    ctx.save_for_backward(cos, sin)


def _backward(ctx, dq, dk):
    return *_rotate(dq, dk, *ctx.saved_tensors, not ctx.back), None, None, None


_rotate.register_autograd(_backward, setup_context=_save)


class _RotateQKV(torch.autograd.Function):
    """`rotate` of q and k, v unchanged; the backward of all three in one launch."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return *_rotate(q, k, cos, sin, False), v.view_as(v)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[3:])
        ctx.shapes = [x.shape[2:] for x in inputs[:3]]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *columns(_rotate_back_packed(*gradients, *ctx.saved_tensors), ctx.shapes), None, None
