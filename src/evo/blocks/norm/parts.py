"""Norms of equal parts of the channels: of heads, of groups, with and without gains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.norm.rms import rms_norm
from evo.blocks.norm.spec import PartsNormPlan
from evo.kernels.fused import NORM


class PartsNorm(Norm):
    """(x - mean) * rsqrt(mean(x²) + eps) * gain + bias of each part; see `PartsNormPlan` for what may be left out."""

    fused = (NORM,)
    gain: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, plan: PartsNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps, self.center, self.total = plan.eps, plan.center, plan.total
        self.shape = plan.parts, plan.channels // plan.parts
        self.by_heads = plan.by_heads

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., C), or (..., H, K) where it is planned over heads, in its shape and dtype."""
        flat = x_BTD.flatten(-2) if self.by_heads else x_BTD
        parts = flat.unflatten(-1, self.shape)
        gain = self._by_part(self.gain)
        is_rms = self.bias is None and not (self.center or self.total)
        if gain is not None and gain.shape == parts.shape[-1:] and is_rms:
            return rms_norm(parts, gain, self.eps, self.fused_backend).reshape(x_BTD.shape)
        return self._plain(parts, gain).reshape(x_BTD.shape).to(x_BTD.dtype)

    def _plain(self, parts: Tensor, gain: Tensor | None) -> Tensor:
        parts = parts.to(compute_dtype(parts))
        if self.center:
            parts = parts - parts.mean(-1, keepdim=True)
        squares = parts.square()
        size = squares.sum(-1, keepdim=True) if self.total else squares.mean(-1, keepdim=True)
        parts = parts * torch.rsqrt(size + self.eps)
        if gain is not None:
            parts = parts * gain
        bias = self._by_part(self.bias)
        return parts if bias is None else parts + bias

    def _by_part(self, weight: Tensor | None) -> Tensor | None:
        """Gains or biases as they meet the parts: one number or set for all, or one set for each."""
        if weight is None or weight.shape[0] in (1, self.shape[1]):
            return weight
        return weight.view(self.shape)
