"""The language and the plan of feed-forwards."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Scope, Spec

Act = Literal["relu", "relu2", "gelu", "silu"]
Ratio = Annotated[float, Field(gt=0, le=64), Gene(0.5, 8, "scale")]


def hidden_size(width: int, ratio: float) -> int:
    """width * ratio, rounded to a multiple of 8 (at least 8) so that matrices tile well."""
    return max(8, round(width * ratio / 8) * 8)


@dataclass(frozen=True, kw_only=True)
class DensePlan(BlockPlan):
    """A dense feed-forward of `hidden` units."""

    builder: ClassVar[str] = "evo.blocks.feedforward.module:Dense"
    hidden: int
    act: str


@dataclass(frozen=True, kw_only=True)
class GatedPlan(BlockPlan):
    """A gated feed-forward of `hidden` units."""

    builder: ClassVar[str] = "evo.blocks.feedforward.module:Gated"
    hidden: int
    act: str


class DenseSpec(Spec):
    """down(act(up(x)))."""

    kind: ClassVar[str | None] = "dense"
    stacks: ClassVar[bool] = True

    ratio: Ratio = 4.0
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "relu2"
    """relu, relu squared (So et al. 2021), exact gelu, or silu."""
    bias: bool = False
    """Biases on both projections."""

    def plan(self, scope: Scope) -> DensePlan:
        hidden = hidden_size(scope.width, self.ratio)
        weights = [linear("up", hidden, scope.width), _down(scope, hidden)]
        if self.bias:
            weights += [vector("up_bias", hidden, ZEROS), vector("down_bias", scope.width, ZEROS)]
        cost = Cost(flops=matmul_flops(tuple(weights)), activations=scope.width + 2 * hidden)
        return DensePlan(kind=self.label, weights=tuple(weights), cost=cost, hidden=hidden, act=self.act)


class GatedSpec(Spec):
    """down(act(gate(x)) * up(x)) (Shazeer 2020)."""

    kind: ClassVar[str | None] = "gated"
    stacks: ClassVar[bool] = True

    ratio: Ratio = 2.67
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "silu"
    """relu, relu squared, exact gelu, or silu (SwiGLU)."""
    bias: bool = False
    """Biases on all three projections."""

    def plan(self, scope: Scope) -> GatedPlan:
        hidden = hidden_size(scope.width, self.ratio)
        weights = [
            linear("gate", hidden, scope.width),
            linear("up", hidden, scope.width),
            _down(scope, hidden),
        ]
        if self.bias:
            sizes = (("gate", hidden), ("up", hidden), ("down", scope.width))
            weights += [vector(f"{name}_bias", size, ZEROS) for name, size in sizes]
        cost = Cost(flops=matmul_flops(tuple(weights)), activations=scope.width + 4 * hidden)
        return GatedPlan(kind=self.label, weights=tuple(weights), cost=cost, hidden=hidden, act=self.act)


class NoFeedForwardSpec(Spec):
    """No feed-forward: the layer is its mixer alone."""

    kind: ClassVar[str | None] = "none"

    def plan(self, scope: Scope) -> None:
        return None


def _down(scope: Scope, hidden: int) -> Weight:
    return linear("down", scope.width, hidden, scope.residual_gain, writes_residual=True)
