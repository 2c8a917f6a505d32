"""The language and the plan of positions that turn magnitudes."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.position.spec import ActsOn, PositionSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class PolarPlan(BlockPlan):
    """Channels turned by `frequencies` in radians per token, one for each."""

    builder: ClassVar[str] = "evo.blocks.position.turned:Polar"
    frequencies: tuple[float, ...]


class PolarSpec(PositionSpec):
    """Scores are sum over channels c of softplus(q_c) softplus(k_c) cos((t - s) f_c - d_c), d learned a head: what is
    said by magnitudes, where by phases alone (PoPE, Gopalakrishnan et al. 2509.10534)."""

    kind: ClassVar[str | None] = "polar"
    acts_on: ClassVar[ActsOn] = "queries and keys"
    widens: ClassVar[int] = 2

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths: f_c = theta^(-c / head_dim)."""
    start: Annotated[Literal["zeros", "uniform"], FIXED] = "zeros"
    """Where phases start: at 0, or anywhere in a whole turn; they stay within -2 pi and 0."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        init = ZEROS if self.start == "zeros" else Init("uniform", -2.0 * math.pi, 0.0)
        return PolarPlan(
            kind=self.label,
            weights=(Weight("phase", (heads, head_dim), init, ("channel", "channel"), "vector"),),
            cost=Cost(flops=12.0 * heads * head_dim, activations=2 * heads * head_dim),
            frequencies=tuple(self.theta ** (-channel / head_dim) for channel in range(head_dim)),
        )
