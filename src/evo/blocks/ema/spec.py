"""The language and the plan of damped moving averages."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.acts import Word
from evo.dsl.genes import Gene
from evo.dsl.plan import Axis, BlockPlan, Cost, Init, Weight, vector
from evo.dsl.spec import Scope, Spec


@dataclass(frozen=True, kw_only=True)
class EmaPlan(BlockPlan):
    """`state` averages of each of `channels`."""

    builder: ClassVar[str] = "evo.blocks.ema.module:Ema"
    channels: int
    state: int
    act: str


class EmaSpec(Spec):
    """act(sum_n c_n h_n / sqrt(N) + d x), h_n <- a_n b_n x + (1 - a_n e_n) h_n: damped moving averages of each channel,
    which no token changes (Mega, Ma et al. 2209.10655, section 3.1). No map stands before or behind it."""

    kind: ClassVar[str | None] = "ema"

    state: Annotated[int, Field(ge=1, le=4096), Gene(1, 32, "x2")] = 16
    """N: averages of a channel."""
    act: Word = "silu"
    """What follows."""

    def plan(self, scope: Scope) -> EmaPlan:
        width, axes = scope.width, tuple[Axis, ...](("channel", "channel"))

        def each(name: str, init: Init) -> Weight:
            return Weight(name, (width, self.state), init, axes)

        near = Init("normal", 0.2)
        weights = (each("take", near), each("damp", near), each("spread", Init("normal", 1.0)))
        return EmaPlan(
            kind=self.label,
            weights=(*weights, each("gather", Init("normal", 1.0)), vector("skip", width, Init("normal", 1.0))),
            cost=Cost(
                flops=width * (6.0 * self.state + 3.0),
                state=width * self.state,
                activations=width * (2 * self.state + 2),
            ),
            has_state=True,
            channels=width,
            state=self.state,
            act=self.act,
        )
