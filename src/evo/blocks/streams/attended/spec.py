"""The language and the plans of sublayers that attend to what all before them gave."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import Eps
from evo.blocks.streams.dense.spec import FirstPlan
from evo.blocks.streams.spec import ConnectionPlan, StreamsSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class AttendedPlan(ConnectionPlan):
    """A softmax over `count` states. opens: whether what the sublayer gives is a state of its own, and no part of the
    latest. eps: of the norm of states."""

    builder: ClassVar[str] = "evo.blocks.streams.attended.module:Attended"
    opens: bool
    eps: float


@dataclass(frozen=True, kw_only=True)
class AttendedEndPlan(ConnectionPlan):
    """The same of all sublayers of a stage."""

    builder: ClassVar[str] = "evo.blocks.streams.attended.module:AttendedEnd"
    eps: float


class AttendedStreams(StreamsSpec):
    """Each sublayer reads what the stage reads and what all sublayers before it gave, by a softmax over these of one
    learned query times the norm of each; the stage gives another such sum (attention residuals, 2603.15031)."""

    kind: ClassVar[str | None] = "attended"
    counts_layers: ClassVar[bool] = True
    keeps_count: ClassVar[bool] = False

    every: Annotated[int, Field(ge=1, le=256), Gene(1, 8, "x2")] = 1
    """How many sublayers in a row give one sum, which later ones attend to as one (block attention residuals)."""
    eps: Annotated[Eps, FIXED] = 1e-6
    """Added to the mean square of what is normed."""

    def connection(self, scope: Scope, index: int) -> AttendedPlan:
        """index: how many sublayers of the stage stand before."""
        count = self._states(index)
        # the one state before the first sublayer has all of a softmax, whatever is asked
        weights = (vector("query", scope.width, ZEROS),) if count > 1 else ()
        cost = self._cost(scope.width, count) if count > 1 else Cost()
        opens = index % self.every == 0
        return AttendedPlan(kind=self.label, weights=weights, cost=cost, count=count, opens=opens, eps=self.eps)

    def begin(self, scope: Scope) -> BlockPlan:
        return FirstPlan(kind="first state", count=1)

    def end(self, scope: Scope) -> AttendedEndPlan:
        return self.end_behind(scope, 1)

    def end_behind(self, scope: Scope, layers: int) -> AttendedEndPlan:
        """layers: how many sublayers there are."""
        count = self._states(layers)
        weights = (vector("query", scope.width, ZEROS),)
        cost = self._cost(scope.width, count)
        return AttendedEndPlan(kind="states attended to", weights=weights, cost=cost, count=count, eps=self.eps)

    def _states(self, sublayers: int) -> int:
        """How many states there are behind so many sublayers."""
        return 1 + -(-sublayers // self.every)

    def _cost(self, width: int, count: int) -> Cost:
        return Cost(flops=7.0 * count * width, activations=2 * count * width)
