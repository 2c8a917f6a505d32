"""RMS and layer normalisation of the residual stream."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.norm.rms import rms_norm
from evo.blocks.norm.spec import LayerNormPlan, RMSNormPlan
from evo.kernels.fused import ADD_NORM, NORM, add_norm, norm, takes_triton


class RMSNorm(Norm):
    """x / sqrt(mean(x²) + eps) * gain (Zhang & Sennrich 2019)."""

    fused = (NORM, ADD_NORM)
    gain: nn.Parameter

    def __init__(self, plan: RMSNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps = plan.eps

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D) in x's dtype, or autocast's."""
        return rms_norm(x_BTD, self.gain, self.eps, self.backend)

    def after_sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """x + y and its norm, each (..., D)."""
        if takes_triton(x_BTD, self.backend):
            return add_norm(x_BTD, y_BTD, self.gain, None, self.eps, center=False)
        total_BTD = x_BTD + y_BTD
        return total_BTD, rms_norm(total_BTD, self.gain, self.eps, self.backend)


class LayerNorm(Norm):
    """(x - mean) / sqrt(variance + eps) * gain + bias (Ba et al. 2016)."""

    fused = (NORM, ADD_NORM)
    gain: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, plan: LayerNormPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.eps = plan.eps

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        return norm(x_BTD, self.gain, self.bias, self.eps, center=True, backend=self.backend)

    def after_sum(self, x_BTD: Tensor, y_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """x + y and its norm, each (..., D)."""
        return add_norm(x_BTD, y_BTD, self.gain, self.bias, self.eps, center=True, backend=self.backend)
