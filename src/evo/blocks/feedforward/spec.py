"""The language and the plan of feed-forwards."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Scope, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Spec

Act = Literal["relu", "relu2", "gelu", "silu"]
Ratio = Annotated[float, Field(gt=0, le=64), Gene(0.5, 8, "scale")]


def hidden_size(width: int, ratio: float) -> int:
    """width * ratio, rounded to a multiple of 8 (at least 8) so that matrices tile well."""
    return max(8, round(width * ratio / 8) * 8)


class DenseSpec(Spec):
    """down(act(up(x)))."""

    kind: ClassVar[str | None] = "dense"

    ratio: Ratio = 4.0
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "relu2"
    """relu, relu squared (So et al. 2021), exact gelu, or silu."""
    bias: bool = False
    """Biases on both projections."""

    def plan(self, scope: Scope) -> BlockPlan:
        hidden = hidden_size(scope.width, self.ratio)
        weights = [linear("up", hidden, scope.width), _down(scope, hidden)]
        if self.bias:
            weights += [vector("up_bias", hidden, ZEROS), vector("down_bias", scope.width, ZEROS)]
        return _plan("Dense", hidden, self.act, tuple(weights), Cost(activations=scope.width + 2 * hidden))


class GatedSpec(Spec):
    """down(act(gate(x)) * up(x)) (Shazeer 2020)."""

    kind: ClassVar[str | None] = "gated"

    ratio: Ratio = 2.67
    """Hidden width over width; the product is rounded to a multiple of 8."""
    act: Act = "silu"
    """relu, relu squared, exact gelu, or silu (SwiGLU)."""
    bias: bool = False
    """Biases on all three projections."""

    def plan(self, scope: Scope) -> BlockPlan:
        hidden = hidden_size(scope.width, self.ratio)
        weights = [
            linear("gate", hidden, scope.width),
            linear("up", hidden, scope.width),
            _down(scope, hidden),
        ]
        if self.bias:
            sizes = (("gate", hidden), ("up", hidden), ("down", scope.width))
            weights += [vector(f"{name}_bias", size, ZEROS) for name, size in sizes]
        return _plan("Gated", hidden, self.act, tuple(weights), Cost(activations=scope.width + 4 * hidden))


class NoFeedForwardSpec(Spec):
    """No feed-forward: the layer is its mixer alone."""

    kind: ClassVar[str | None] = "none"

    def plan(self, scope: Scope) -> BlockPlan:
        return BlockPlan("none", "")


def _down(scope: Scope, hidden: int) -> Weight:
    return linear("down", scope.width, hidden, scope.residual_gain, writes_residual=True)


def _plan(name: str, hidden: int, act: str, weights: tuple[Weight, ...], cost: Cost) -> BlockPlan:
    cost = Cost(flops=matmul_flops(weights), activations=cost.activations)
    builder = f"evo.blocks.feedforward.module:{name}"
    return BlockPlan(name.lower(), builder, {"hidden": hidden, "act": act}, weights, cost)
