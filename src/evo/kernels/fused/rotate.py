"""Rotary positions on queries and keys in one launch each way (RoPE, arXiv 2104.09864, rotate_half pairing)."""

# pyright: reportCallIssue=false, reportArgumentType=false
# A Triton kernel's launch is typed as a call of the Python function under its decorator.

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.fused.support import padded_to
from evo.kernels.triton_support import rowwise

ROW_ELEMENTS = 1024


def rotate(q_BTHK: Tensor, k_BTGK: Tensor, cos_TR: Tensor, sin_TR: Tensor) -> tuple[Tensor, Tensor]:
    """q (B, T, H, K) and k (B, T, G, K) with pairs (i, i + R) turned: (a cos - b sin, b cos + a sin).

    Dims from 2 R on stay. cos and sin: (T, R) float32, dense, no gradient. Always the kernel:
    `evo.blocks.position` holds the plain form.
    """
    return _rotate(q_BTHK, k_BTGK, cos_TR, sin_TR, False)


@torch.library.custom_op("evo::rotate", mutates_args=())
def _rotate(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, back: bool) -> tuple[Tensor, Tensor]:
    """Turned by position, or turned back; dense."""
    from evo.kernels.fused import triton_rotate

    q, k = rowwise(q), rowwise(k)
    q_out, k_out = _empty(q), _empty(k)
    B, T, H, K = q.shape
    G, R = k.shape[2], cos.shape[1]
    pairs = padded_to(R)
    rows = max(1, ROW_ELEMENTS // pairs)
    rest = padded_to(K - 2 * R) if K > 2 * R else 0
    triton_rotate.rotate[(-(-B * T // rows), H + G)](
        q, k, q_out, k_out, cos, sin, *q.stride()[:3], *k.stride()[:3],
        B * T, T, H, G, R, K, -1.0 if back else 1.0, rows, pairs, rest,
    )  # fmt: skip
    return q_out, k_out


def _empty(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@_rotate.register_fake
def _(q, k, cos, sin, back):
    return _empty(q), _empty(k)


def _save(ctx, inputs, output):
    _, _, cos, sin, ctx.back = inputs
    ctx.save_for_backward(cos, sin)


def _backward(ctx, dq, dk):
    return *_rotate(dq, dk, *ctx.saved_tensors, not ctx.back), None, None, None


_rotate.register_autograd(_backward, setup_context=_save)
