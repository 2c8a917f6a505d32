"""What stands around and inside mixers: a norm, a position encoding, a scaling of its frequencies, a stencil."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from evo.blocks.attention.stencils import KernelStencil, StencilSpec
from evo.blocks.base import Block, Norm, Position, compute_dtype
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.scaling import ScalingSpec
from evo.blocks.position.spec import ActsOn, PositionSpec
from evo.dsl.genes import DRAWN, Gene
from evo.dsl.plan import ONES, BlockPlan, Cost, vector
from evo.dsl.spec import RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class PeakPlan(BlockPlan):
    """A norm by the largest magnitude."""

    builder: ClassVar[str] = "strangers.surroundings:Peak"


class PeakSpec(NormSpec):
    """x / max |x| * gain."""

    kind: ClassVar[str | None] = "peak"

    def plan(self, scope: Scope) -> PeakPlan:
        weights = (vector("gain", scope.width, ONES),)
        return PeakPlan(kind=self.label, weights=weights, cost=Cost(flops=3.0 * scope.width, activations=scope.width))


class Peak(Norm):
    """See the spec."""

    gain: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        return x_BTD / x_BTD.abs().amax(-1, keepdim=True).clamp_min(1e-6) * self.gain


@dataclass(frozen=True, kw_only=True)
class SpinPlan(BlockPlan):
    """Rotation of neighbouring pairs by `frequencies` in radians per token."""

    builder: ClassVar[str] = "strangers.surroundings:Spin"
    frequencies: tuple[float, ...]


class SpinSpec(PositionSpec):
    """Rotary encoding of neighbouring pairs, those of a theta of 1000."""

    kind: ClassVar[str | None] = "spin"
    acts_on: ClassVar[ActsOn] = "queries and keys"

    scaling: Annotated[Spec | None, RoleOf("scaling"), DRAWN] = None
    """A change of the frequencies."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> SpinPlan:
        dims = head_dim // 2 * 2
        frequencies = [1000.0 ** (-2 * i / dims) for i in range(dims // 2)]
        if isinstance(self.scaling, ScalingSpec) and dims >= self.scaling.least_dims:
            frequencies = self.scaling.frequencies(1000.0, dims, scope.context)
        return SpinPlan(kind=self.label, frequencies=tuple(frequencies))


class Spin(Position):
    """See the spec."""

    def __init__(self, plan: SpinPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.frequencies_P = Constant(torch.tensor(plan.frequencies, dtype=torch.float64))

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """See `Position.rotate`."""
        dtype = compute_dtype(q_BTHK)
        steps_T = torch.arange(offset, offset + q_BTHK.shape[1], device=q_BTHK.device, dtype=dtype)
        angles_TP = steps_T[:, None] * self.frequencies_P.like(q_BTHK, dtype)
        return self._turned(q_BTHK, angles_TP[:, None]), self._turned(k_BTGK, angles_TP[:, None])

    @staticmethod
    def _turned(x_BTHK: Tensor, angles_T1P: Tensor) -> Tensor:
        dims = 2 * angles_T1P.shape[-1]
        even, odd = x_BTHK[..., 0:dims:2], x_BTHK[..., 1:dims:2]
        cos, sin = angles_T1P.cos(), angles_T1P.sin()
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
        return torch.cat([turned.to(x_BTHK.dtype), x_BTHK[..., dims:]], -1)


class StretchSpec(ScalingSpec):
    """Slow pairs are slowed more: by factor^(i / pairs)."""

    kind: ClassVar[str | None] = "stretch"

    factor: Annotated[float, Field(gt=1), Gene(1.25, 16, "scale")] = 2.0
    """By how much the slowest is slowed."""

    def frequencies(self, theta: float, dims: int, context: int) -> list[float]:
        pairs = dims // 2
        return [theta ** (-2 * i / dims) / self.factor ** (i / pairs) for i in range(pairs)]


class StridedSpec(StencilSpec):
    """Every `stride`-th position, `count` of them, as another package may call what the kernels know as dilated."""

    kind: ClassVar[str | None] = "strided"

    stride: Annotated[int, Field(ge=1), Gene(1, 16, "+1")] = 3
    """Distance between two visible positions."""
    count: Annotated[int, Field(ge=1), Gene(1, 16, "+1")] = 3
    """How many are visible."""

    def kernel(self) -> KernelStencil:
        """Dilated."""
        return {"kind": "dilated", "size": self.count, "dilation": self.stride}

    def visible(self, context: int, causal: bool) -> int:
        """Counted one query after another."""
        ahead = 0 if causal else sum(min(self.count - 1, t // self.stride) for t in range(context))
        return ahead + sum(min(self.count, t // self.stride + 1) for t in range(context))

    def window(self) -> int | None:
        """As far back as the farthest."""
        return (self.count - 1) * self.stride
