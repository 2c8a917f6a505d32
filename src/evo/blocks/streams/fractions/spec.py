"""The language and the plans of a stream in fractions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import Eps
from evo.blocks.streams.spec import SCALE, ConnectionPlan, StreamsSpec
from evo.dsl.genes import Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, matmul_flops, vector
from evo.dsl.spec import Fault, Scope, dividing


@dataclass(frozen=True, kw_only=True)
class FractionsPlan(ConnectionPlan):
    """Learned numbers, and what the fractions change about them; eps: of the norm that these pass."""

    builder: ClassVar[str] = "evo.blocks.streams.fractions.module:Fractions"
    eps: float


@dataclass(frozen=True, kw_only=True)
class CutPlan(BlockPlan):
    """The beginning: a vector in `count` parts."""

    builder: ClassVar[str] = "evo.blocks.streams.fractions.module:Cut"
    count: int


@dataclass(frozen=True, kw_only=True)
class WholePlan(ConnectionPlan):
    """The end: the parts side by side."""

    builder: ClassVar[str] = "evo.blocks.streams.fractions.module:WholeEnd"


class FractionStreams(StreamsSpec):
    """Hyper-connections between fractions of one stream, which is no wider (frac-connections, Zhu et al. 2503.14125):
    each fraction that a sublayer reads, and that stays, is a sum of all by shares that are learned."""

    kind: ClassVar[str | None] = "fractions"
    keeps_count: ClassVar[bool] = False

    count: Annotated[int, Field(ge=2, le=16), Gene(2, 8, "x2")] = 4
    """How many fractions, which divide the width."""
    dynamic: bool = True
    """Whether the numbers depend on the fractions."""
    eps: Eps = 1e-6
    """Added to the mean square of a fraction that numbers depend on."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.dynamic else frozenset({"eps"})

    @property
    def is_plain_at_first(self) -> bool:
        return True

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if scope.width % self.count:
            message = f"{self.count} fractions do not divide a stream of {scope.width}"
            yield Fault("EVO300", ("count",), message, dividing(scope.width))

    def begin(self, scope: Scope) -> BlockPlan:
        return CutPlan(kind="fractions", count=self.count)

    def connection(self, scope: Scope, index: int) -> FractionsPlan:
        del index
        count, part = self.count, scope.width // self.count
        shares = (Weight(name, (count, count), Init("diagonal", 0, 1.0), ("stack", "channel")) for name in OF)
        maps = (Weight("changes", (2 * count + 1, part), ZEROS, ("out", "in"), "matrix"),) if self.dynamic else ()
        scales = (vector("scales", 2, SCALE),) if self.dynamic else ()
        flops = (4.0 * count + 2.0) * scope.width + count * matmul_flops(maps) + (4.0 * scope.width if maps else 0.0)
        return FractionsPlan(
            kind=self.label,
            weights=(*shares, vector("writes", count, ONES), *maps, *scales),
            cost=Cost(flops=flops, activations=(4 if maps else 2) * scope.width),
            count=count,
            eps=self.eps,
        )

    def end(self, scope: Scope) -> WholePlan:
        return WholePlan(kind="whole stream", count=self.count)


OF = ("reads", "mix")
"""Shares of fractions in those that a sublayer reads, and in those that stay: a row each, a column for each made."""
