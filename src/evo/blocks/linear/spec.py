"""The language and the plan of a linear map."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, linear, matmul_flops, vector
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class LinearPlan(BlockPlan):
    """A linear map, of a low rank or of any."""

    builder: ClassVar[str] = "evo.blocks.linear.module:Linear"
    rank: int | None


class LinearSpec(Spec):
    """W x, or U V x of a low rank: a block without an activation (LAuReL, Menghani et al. 2411.07501; Zamba)."""

    kind: ClassVar[str | None] = "linear"
    stacks: ClassVar[bool] = True
    widths_apart: ClassVar[bool] = True

    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(4, 256, "x2", optional=True)] = None
    """Channels that U and V meet in; one map of full rank if left out."""
    bias: bool = False
    """A bias of the output."""

    def plan(self, scope: Scope) -> LinearPlan:
        into = self.rank or scope.width
        weights = [] if self.rank is None else [linear("inner", into, scope.width)]
        weights.append(linear("o", scope.given, into, scope.residual_gain, writes_residual=True))
        if self.bias:
            weights.append(vector("o_bias", scope.given, ZEROS))
        cost = Cost(flops=matmul_flops(tuple(weights)), activations=scope.width + (self.rank or 0))
        return LinearPlan(kind=self.label, weights=tuple(weights), cost=cost, rank=self.rank)
