"""The language and the plan of a residual stream whose sums are gated."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.streams.spec import ConnectionPlan, PooledPlan, StreamsSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Scope

Form = Literal["gru", "highway", "output", "input", "sigmoid_tanh"]
MAPS: dict[Form, tuple[str, ...]] = {
    "gru": ("reset_y", "reset_x", "gate_y", "gate_x", "new_y", "new_x"),
    "highway": ("gate_x",),
    "output": ("gate_x",),
    "input": ("gate_x",),
    "sigmoid_tanh": ("gate_y", "new_y"),
}
"""The maps of each form; `_x` are those of the stream, `_y` those of what the sublayer gives."""


@dataclass(frozen=True, kw_only=True)
class GatedPlan(ConnectionPlan):
    """Which gates stand where a sublayer is added."""

    builder: ClassVar[str] = "evo.blocks.streams.gated.module:Gated"
    form: Form


class GatedStreams(StreamsSpec):
    """One stream whose sums are gated by the token (GTrXL, Parisotto et al. 1910.06764; Highway networks, Srivastava
    et al. 2015).
    """

    kind: ClassVar[str | None] = "gated"

    form: Form = "gru"
    """With g = sigmoid(W x + b), x the stream and y what a sublayer gives: highway: g x + (1 - g) y; output:
    x + (1 - g) y; input: g x + y. sigmoid_tanh: x + sigmoid(W y - b) tanh(U y). gru: (1 - z) x + z h,
    z = sigmoid(W y + U x - b), h = tanh(W' y + U' (r x)), r = sigmoid(W'' y + U'' x)."""
    keep: Annotated[float, Field(ge=-20, le=20), Gene(0, 4, "linear")] = 2.0
    """Where b, a learned number a channel, starts: the larger, the more of the stream stays as it is."""

    def connection(self, scope: Scope, index: int) -> GatedPlan:
        del index
        maps: tuple[Weight, ...] = tuple(linear(name, scope.width, scope.width) for name in MAPS[self.form])
        bias = vector("bias", scope.width, Init("constant", self.keep))
        cost = Cost(flops=matmul_flops(maps) + 6.0 * scope.width, activations=(2 + len(maps)) * scope.width)
        return GatedPlan(kind=self.label, weights=(*maps, bias), cost=cost, count=1, form=self.form)

    def end(self, scope: Scope) -> PooledPlan:
        del scope
        return PooledPlan(kind="the stream", cost=Cost(), count=1, factor=1.0)
