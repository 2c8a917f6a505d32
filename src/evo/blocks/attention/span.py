"""The language and the plan of how far heads see, where that is learned."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import BlockPlan, Cost, Init, linear, matmul_flops, vector
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class SpanPlan(BlockPlan):
    """Up to `most` tokens for each head, behind which scores fade over `soft`."""

    builder: ClassVar[str] = "evo.blocks.attention.spans:Span"
    most: int
    soft: int
    penalty: float


class SpanSpec(Spec):
    """A head's weights are e^score times min(1, (soft + z - distance) / soft), 0 where that is not above 0, with a
    learned span z, which a penalty keeps short (Sukhbaatar et al. 1905.07799)."""

    called: ClassVar[str | None] = "this span"

    by: Literal["head", "token"] = "head"
    """head: z = most * sigmoid(b); token: most * sigmoid(v x + b), a span of each token's own (its section 2.2)."""
    most: Annotated[int | None, Field(ge=1), Gene(16, 1024, "x2", optional=True)] = None
    """The longest span; the context if left out."""
    soft: Annotated[int, Field(ge=1, le=65536), Gene(4, 64, "x2")] = 32
    """Over how many tokens behind the span weights fall to 0."""
    start: Annotated[float, Field(gt=0, lt=1), FIXED] = 0.25
    """The share of `most` that spans begin at."""
    penalty: Annotated[float, Field(ge=0, le=1e6), FIXED] = 2e-6
    """Weight of the loss: the mean of the heads' spans, in tokens."""

    def child(self, scope: Scope, heads: int) -> SpanPlan:
        """The plan for so many heads."""
        logit = math.log(self.start / (1.0 - self.start))
        maps = (linear("reach", heads, scope.width),) if self.by == "token" else ()
        return SpanPlan(
            kind="learned spans",
            weights=(*maps, vector("reach_bias", heads, Init("constant", logit))),
            cost=Cost(flops=matmul_flops(maps), activations=heads),
            losses=("span",) if self.penalty else (),
            most=self.most or scope.context,
            soft=self.soft,
            penalty=self.penalty,
        )
