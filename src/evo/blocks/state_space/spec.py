"""The language and the plan of state spaces that no token changes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.dsl.acts import Word
from evo.dsl.genes import Gene
from evo.dsl.plan import ONES, ZEROS, Axis, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class StateSpacePlan(BlockPlan):
    """`rows` times `state` complex numbers over `channels` inputs."""

    builder: ClassVar[str] = "evo.blocks.state_space.module:StateSpace"
    channels: int
    rows: int
    state: int
    form: str
    act: str


class StateSpaceSpec(Spec):
    """h_t = lambda h_{t-1} + b_t, y_t = Re(C h_t) + D x_t, complex and diagonal (S4D, Gu et al. 2206.11893).

    Dense and held between tokens it is S5 (2208.04933), dense with form lru the LRU (2303.06349).
    """

    kind: ClassVar[str | None] = "state_space"
    widths_apart: ClassVar[bool] = True

    state: Annotated[int, Field(ge=1, le=65536), Gene(4, 64, "x2")] = 16
    """Complex states of each channel, or of all channels together if dense."""
    dense: bool = False
    """Whether all channels write to and read from the same states, by matrices (S5, LRU)."""
    form: Literal["zoh", "lru"] = "zoh"
    """zoh: a continuous system whose input is held between tokens, with learned steps. lru: moduli and angles are
    learned themselves, and inputs scaled so that states keep their size."""
    gate: bool = True
    """Whether the output is gated by a map of what is read (GLU)."""
    act: Word = "gelu"
    """What is read passes before it is mapped."""
    maps: bool = True
    """Whether there is an output map; without it the output is what is read, activated, and nothing gates."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.maps else frozenset({"gate"})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if not self.maps and scope.given != scope.width:
            yield Fault("EVO306", ("maps",), "the input has another width than what is given", "write maps: true")

    def plan(self, scope: Scope) -> StateSpacePlan:
        rows = 1 if self.dense else scope.width
        weights = self._weights(scope, rows)
        cost = Cost(
            flops=matmul_flops(weights) + 20.0 * rows * self.state + 4.0 * scope.width,
            state=2 * rows * self.state,
            activations=3 * scope.width + 6 * rows * self.state,
        )
        return StateSpacePlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            has_state=True,
            channels=scope.width,
            rows=rows,
            state=self.state,
            form=self.form,
            act=self.act,
        )

    def _weights(self, scope: Scope, rows: int) -> tuple[Weight, ...]:
        width, state = scope.width, self.state
        weights = [*self._transition(rows, width), vector("skip", width, ONES)]
        if self.dense:
            weights += [linear("b", 2 * state, width), linear("c", width, 2 * state)]
        else:
            init = Init("normal", state**-0.5)
            weights.append(Weight("c", (width, state, 2), init, ("channel", "channel", "channel")))
        if self.maps:
            weights.append(linear("o", scope.given, width, scope.residual_gain, writes_residual=True))
        if self.gate and self.maps:
            weights.append(linear("gate", scope.given, width))
        return tuple(weights)

    def _transition(self, rows: int, width: int) -> tuple[Weight, ...]:
        """What lambda and the scale of inputs are made of."""
        axes: tuple[Axis, ...] = ("channel", "channel")

        def each(name: str, init: Init) -> Weight:
            return Weight(name, (rows, self.state), init, axes)

        if self.form == "lru":
            return (
                each("rate", Init("uniform", -6.9, -2.3)),
                each("frequency", Init("uniform", math.log(1e-3), math.log(math.pi))),
                each("gain", ZEROS),
            )
        steps = Init("uniform", math.log(1e-3), math.log(1e-1))
        return (
            each("rate", Init("constant", math.log(0.5))),
            each("frequency", Init("ramp", 0.0, math.pi * (self.state - 1))),
            vector("step", self.state if self.dense else width, steps),
        )
