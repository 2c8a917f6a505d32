"""The language and the plan of positions that count what a query finds between itself and a key."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.position.spec import ActsOn, PositionSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class ContextualPlan(BlockPlan):
    """A vector for each whole position, which queries meet as they meet keys."""

    builder: ClassVar[str] = "evo.blocks.position.counted:Contextual"


class ContextualSpec(PositionSpec):
    """Scores get q_t e(p), p = sum over s <= u <= t of sigmoid(q_t k_u scale), e between the vectors of whole numbers
    (CoPE, Golovneva et al. 2405.18719)."""

    kind: ClassVar[str | None] = "contextual"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True
    counts_keys: ClassVar[bool] = True

    most: Annotated[int, Field(ge=2, le=65536), Gene(4, 256, "x2")] = 64
    """How many positions have vectors, which all heads share; whatever is further counts as the last."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        vectors = replace(
            linear("vectors", self.most, head_dim), init=ZEROS, share=float(heads)
        )  # each head meets them
        return ContextualPlan(
            kind=self.label,
            weights=(vectors,),
            cost=Cost(
                flops=matmul_flops((vectors,)) + heads * (head_dim + 3.0) * (scope.context + 1),
                activations=heads * self.most,
            ),
        )
