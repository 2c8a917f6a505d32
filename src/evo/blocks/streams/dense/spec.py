"""The language and the plans of layers that read sums of what all earlier layers gave."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import Eps
from evo.blocks.streams.spec import ConnectionPlan, StreamsSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class DensePlan(ConnectionPlan):
    """A sum of every `every`-th of the latest states, `count` in all. eps: of the norm that shares depend on."""

    builder: ClassVar[str] = "evo.blocks.streams.dense.module:Dense"
    every: int
    eps: float


@dataclass(frozen=True, kw_only=True)
class DenseEndPlan(DensePlan):
    """The same of all layers of a stage."""

    builder: ClassVar[str] = "evo.blocks.streams.dense.module:DenseEnd"


@dataclass(frozen=True, kw_only=True)
class FirstPlan(ConnectionPlan):
    """What a stage reads as its first state."""

    builder: ClassVar[str] = "evo.blocks.streams.dense.module:First"


class DenseStreams(StreamsSpec):
    """Each layer reads a sum of what the stage reads and of what every layer before it gave, by shares that are learned
    (DenseFormer, Pagliardini et al. 2402.02622) and may depend on the token (MUDD's one-way form, Xiao et al.
    2502.12170); the stage gives another such sum."""

    kind: ClassVar[str | None] = "dense"
    wraps_layers: ClassVar[bool] = True
    counts_layers: ClassVar[bool] = True

    dynamic: bool = True
    """Whether shares depend on the token."""
    rank: Annotated[int | None, Field(ge=1, le=65536), Gene(2, 64, "x2", optional=True), WIDENING] = None
    """Width of what they are made of then; as many as there are shares if left out."""
    every: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 1
    """Of the states before a layer it reads the latest and every so manieth before (DenseFormer's dilation)."""
    eps: Annotated[Eps, FIXED] = 1e-6
    """Added to the mean square of the latest state, which shares depend on."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.dynamic else frozenset({"rank", "eps"})

    @property
    def is_plain_at_first(self) -> bool:
        return True

    def connection(self, scope: Scope, index: int) -> DensePlan:
        """index: how many layers of the stage stand before."""
        count, weights, cost = self._reads(scope, index + 1)
        return DensePlan(kind=self.label, weights=weights, cost=cost, count=count, every=self.every, eps=self.eps)

    def begin(self, scope: Scope) -> BlockPlan:
        return FirstPlan(kind="first state", count=1)

    def end(self, scope: Scope) -> DenseEndPlan:
        return self.end_behind(scope, 1)

    def end_behind(self, scope: Scope, layers: int) -> DenseEndPlan:
        count, weights, cost = self._reads(scope, layers + 1)
        return DenseEndPlan(kind="states' sum", weights=weights, cost=cost, count=count, every=self.every, eps=self.eps)

    def _reads(self, scope: Scope, states: int) -> tuple[int, tuple[Weight, ...], Cost]:
        """How many of so many states are read, what makes their shares, and what that costs."""
        count, width = -(-states // self.every), scope.width
        weights = [vector("shares", count, Init("diagonal", count - 1, 1.0))]
        if self.dynamic:
            rank = self.rank or count
            weights += [linear("down", rank, width), Weight("up", (count, rank), ZEROS, ("out", "in"), "matrix")]
        flops = matmul_flops(tuple(weights[1:])) + 2.0 * count * width + (3.0 * width if self.dynamic else 0.0)
        kept = states * width + (2 * width + 2 * (self.rank or count) if self.dynamic else 0)
        return count, tuple(weights), Cost(flops=flops, activations=kept)
