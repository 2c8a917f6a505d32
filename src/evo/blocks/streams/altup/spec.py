"""The language and the plans of alternating updates."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import Eps, RMSNormSpec
from evo.blocks.streams.spec import ConnectionPlan, Count, StreamsSpec
from evo.dsl.genes import FIXED
from evo.dsl.plan import ONES, ZEROS, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class AltUpPlan(ConnectionPlan):
    """What predicts `count` streams before a layer, and corrects them by what it made of the first."""

    builder: ClassVar[str] = "evo.blocks.streams.altup.module:AltUp"


@dataclass(frozen=True, kw_only=True)
class SpreadPlan(ConnectionPlan):
    """Streams as maps of one vector."""

    builder: ClassVar[str] = "evo.blocks.streams.altup.module:Spread"


@dataclass(frozen=True, kw_only=True)
class GatheredPlan(ConnectionPlan):
    """The mean of maps of streams."""

    builder: ClassVar[str] = "evo.blocks.streams.altup.module:Gathered"


class AltUpStreams(StreamsSpec):
    """Streams of which each layer computes the first; the others are predicted before it, and corrected by how far the
    prediction of the first was off (AltUp, Baykal et al. 2301.13310; Gemma 3n)."""

    kind: ClassVar[str | None] = "altup"
    wraps_layers: ClassVar[bool] = True

    count: Count = 4
    """How many streams."""
    aside: Annotated[int, Field(ge=0, le=15), FIXED] = 0
    """How many of a layer's last sublayers read the corrected first stream, times learned gains, and are added to the
    others."""
    eps: Eps = 1e-6
    """Added to the mean square of the stream that shares are chosen by."""

    @property
    def set_aside(self) -> int:
        return self.aside

    def connection(self, scope: Scope, index: int) -> AltUpPlan:
        del index
        count, width = self.count, scope.width
        maps = (
            linear("router", count, width),
            Weight("predict", (count * count, count), ZEROS, ("out", "in"), "matrix"),
            Weight("correct", (count, count), ZEROS, ("out", "in"), "matrix"),
        )
        gains = (vector("aside_gain", width, ONES),) if self.aside else ()
        values = float(count * width)
        flops = matmul_flops(maps) + matmul_flops(maps[:1]) + values * (2 * count + 5)  # the router runs twice
        return AltUpPlan(
            kind=self.label,
            weights=(*maps, *gains),
            cost=Cost(flops=flops, activations=4 * count * width),
            children=(("norm", RMSNormSpec(eps=self.eps).plan(scope)),),
            count=count,
        )

    def begin(self, scope: Scope) -> SpreadPlan:
        weights, cost = self._maps(scope)
        return SpreadPlan(kind="streams' maps", weights=weights, cost=cost, count=self.count)

    def end(self, scope: Scope) -> GatheredPlan:
        weights, cost = self._maps(scope)
        return GatheredPlan(kind="streams' mean", weights=weights, cost=cost, count=self.count)

    def _maps(self, scope: Scope) -> tuple[tuple[Weight, ...], Cost]:
        """A map for each stream but the first."""
        weights = tuple(linear(f"map{index}", scope.width, scope.width) for index in range(1, self.count))
        values = self.count * scope.width
        return weights, Cost(flops=matmul_flops(weights) + 5.0 * values, activations=2 * values)
