"""The language and the plan of norms."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Scope, vector
from evo.dsl.spec import Spec

Place = Literal["pre", "post", "sandwich"]


class NormSpec(Spec):
    """A norm and its place: pre `x + f(N(x))`, post `N(x + f(x))`, sandwich `x + N(f(N(x)))`."""

    place: Place = "pre"
    """Where it stands around each mixer and feed-forward."""


class RMSNormSpec(NormSpec):
    """x / rms(x) * gain (Zhang & Sennrich 2019)."""

    kind: ClassVar[str | None] = "rms"

    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-6
    """Added to the mean square."""

    def plan(self, scope: Scope) -> BlockPlan:
        weights = (vector("gain", scope.width, ONES),)
        cost = Cost(flops=4.0 * scope.width, activations=scope.width)
        return BlockPlan("rms", "evo.blocks.norm.module:RMSNorm", {"eps": self.eps}, weights, cost)


class LayerNormSpec(NormSpec):
    """(x - mean) / deviation * gain + bias (Ba et al. 2016)."""

    kind: ClassVar[str | None] = "layer"

    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-5
    """Added to the variance."""
    bias: bool = True
    """Whether a bias is learned."""

    def plan(self, scope: Scope) -> BlockPlan:
        weights = [vector("gain", scope.width, ONES)]
        if self.bias:
            weights.append(vector("bias", scope.width, ZEROS))
        cost = Cost(flops=7.0 * scope.width, activations=scope.width)
        return BlockPlan("layer", "evo.blocks.norm.module:LayerNorm", {"eps": self.eps}, tuple(weights), cost)
