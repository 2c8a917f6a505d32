"""The language and the plan of what bounds channels in a norm's place."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class SquashedNormPlan(BlockPlan):
    """Which function bounds channels."""

    builder: ClassVar[str] = "evo.blocks.norm.squashed.module:SquashedNorm"
    by: str


class SquashedNormSpec(NormSpec):
    """tanh(slope x + shift) * gain + bias, each channel by itself: no norm (DyT, Zhu et al. 2503.10622)."""

    kind: ClassVar[str | None] = "squashed"

    by: Literal["tanh", "erf"] = "tanh"
    """The function; erf: Derf (Chen et al. 2512.10938)."""
    slope: Annotated[float, Field(gt=0, le=100), Gene(0.1, 2, "scale")] = 0.5
    """Where the learned slope, one for all channels, starts."""
    shift: bool = False
    """Whether there is a learned shift, one for all channels (Derf)."""
    bias: bool = True
    """Whether a bias is learned."""

    def plan(self, scope: Scope) -> SquashedNormPlan:
        return self._plan(scope.width, 1)

    def over_heads(self, heads: int, head_dim: int) -> SquashedNormPlan:
        return self._plan(head_dim, heads)

    def _plan(self, channels: int, heads: int) -> SquashedNormPlan:
        weights = [vector("slope", 1, Init("constant", self.slope)), vector("gain", channels, ONES)]
        weights += [vector("shift", 1, ZEROS)] if self.shift else []
        weights += [vector("bias", channels, ZEROS)] if self.bias else []
        cost = Cost(flops=(2.0 + len(weights)) * channels * heads, activations=channels * heads)
        return SquashedNormPlan(kind=self.label, weights=tuple(weights), cost=cost, by=self.by)
