"""RMS and layer normalisation of the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.norm.rms import rms_norm
from evo.dsl.plan import BlockPlan


class RMSNorm(Block):
    """x / sqrt(mean(x²) + eps) * gain (Zhang & Sennrich 2019)."""

    gain: nn.Parameter

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps: float = plan.settings["eps"]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) -> (..., D) in x's dtype."""
        return rms_norm(x_BTD, self.gain, self.eps)


class LayerNorm(Block):
    """(x - mean) / sqrt(variance + eps) * gain + bias (Ba et al. 2016)."""

    optional: ClassVar[tuple[str, ...]] = ("bias",)
    gain: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps: float = plan.settings["eps"]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x_BTD, self.gain.shape, self.gain, self.bias, self.eps)
