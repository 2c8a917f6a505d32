"""RMS normalisation, where torch has no fast form: on CUDA by a kernel, on the CPU in half the passes over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.dispatch import AUTO
from evo.kernels.fused import norm, takes_triton
from evo.kernels.operators import in_transform

FULL = (torch.float32, torch.float64)


def rms_norm(x: Tensor, gain_D: Tensor, eps: float, backend: str = AUTO) -> Tensor:
    """x / sqrt(mean(x²) + eps) * gain over the last dimension, (..., D) -> (..., D) (Zhang & Sennrich).

    In x's dtype, or by the kernel in autocast's.
    """
    if takes_triton(x, backend):
        return norm(x, gain_D, None, eps, center=False)
    gain_D = gain_D.to(x.dtype)
    if x.device.type != "cpu" or x.dtype not in FULL or torch.compiler.is_compiling():
        return F.rms_norm(x, gain_D.shape, gain_D, eps)
    return _RMSNorm.apply(x, gain_D, eps)[0]  # pyright: ignore[reportOptionalSubscript]


def _inverse(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps), (..., 1)."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square().div(x.shape[-1]).add(eps).rsqrt()


class _RMSNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean(x²) + eps); dx = g w r - x r³ sum(g w x) / D; dw = sum(g x r)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gain_D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        inverse = _inverse(x, eps)
        y = x * inverse
        # gains of many members over an input that they share have no place in it
        return (y * gain_D if in_transform() else y.mul_(gain_D)), inverse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, gain_D, ctx.eps = inputs
        ctx.save_for_backward(x, gain_D, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gain_D, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (*_differentiable_backward(x, gain_D, _inverse(x, ctx.eps), gradients[0]), None)
        return (*_fused_backward(x, gain_D, inverse, gradients[0]), None)


def _differentiable_backward(x: Tensor, gain_D: Tensor, inverse: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """dx and dw by the equations, so that they can be differentiated again."""
    product_ND = (gradient * x).reshape(-1, x.shape[-1])
    along = (product_ND @ gain_D).view_as(inverse)
    dx = gradient * gain_D * inverse - x * along * inverse.pow(3) / x.shape[-1]
    return dx, (inverse.reshape(1, -1) @ product_ND).view_as(gain_D)


def _fused_backward(x: Tensor, gain_D: Tensor, inverse: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The same by layer norm's kernel with a mean of zero, which takes r mean(g w) too much from dx."""
    outputs = torch.ops.aten.native_layer_norm_backward(
        gradient, x, gain_D.shape, torch.zeros_like(inverse), inverse, gain_D, None, [True, True, False]
    )
    dx, dw = outputs[0], outputs[1]
    excess = (gradient.reshape(-1, x.shape[-1]) @ gain_D).view_as(inverse).mul_(inverse).div_(x.shape[-1])
    return dx.add_(excess), dw
