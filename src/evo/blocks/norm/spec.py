"""The language and the plan of norms."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, vector
from evo.dsl.spec import Scope, Spec

Place = Literal["pre", "post", "sandwich"]


class NormSpec(Spec):
    """A norm and its place: pre `x + f(N(x))`, post `N(x + f(x))`, sandwich `x + N(f(N(x)))`."""

    place: Place = "pre"
    """Where it stands around each mixer and feed-forward."""

    def plan(self, scope: Scope) -> BlockPlan:
        """The norm; a norm is never nothing."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class RMSNormPlan(BlockPlan):
    """RMS normalisation."""

    builder: ClassVar[str] = "evo.blocks.norm.module:RMSNorm"
    eps: float


@dataclass(frozen=True, kw_only=True)
class LayerNormPlan(BlockPlan):
    """Layer normalisation."""

    builder: ClassVar[str] = "evo.blocks.norm.module:LayerNorm"
    eps: float


class RMSNormSpec(NormSpec):
    """x / rms(x) * gain (Zhang & Sennrich 2019)."""

    kind: ClassVar[str | None] = "rms"

    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-6
    """Added to the mean square."""

    def plan(self, scope: Scope) -> RMSNormPlan:
        weights = (vector("gain", scope.width, ONES),)
        cost = Cost(flops=4.0 * scope.width, activations=scope.width)
        return RMSNormPlan(kind=self.label, weights=weights, cost=cost, eps=self.eps)


class LayerNormSpec(NormSpec):
    """(x - mean) / deviation * gain + bias (Ba et al. 2016)."""

    kind: ClassVar[str | None] = "layer"

    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-5
    """Added to the variance."""
    bias: bool = True
    """Whether a bias is learned."""

    def plan(self, scope: Scope) -> LayerNormPlan:
        weights = [vector("gain", scope.width, ONES)]
        if self.bias:
            weights.append(vector("bias", scope.width, ZEROS))
        cost = Cost(flops=7.0 * scope.width, activations=scope.width)
        return LayerNormPlan(kind=self.label, weights=tuple(weights), cost=cost, eps=self.eps)
