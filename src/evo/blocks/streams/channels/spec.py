"""The language and the plans of residual streams whose channels are read by gates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.streams.spec import ConnectionPlan, Count, Factor, StreamsSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ChannelsPlan(ConnectionPlan):
    """A mean of normed streams with gates by channel; what writes has one gate a stream, of at most `magnitude`."""

    builder: ClassVar[str] = "evo.blocks.streams.channels.module:Channels"
    magnitude: float


@dataclass(frozen=True, kw_only=True)
class ChannelsEndPlan(ConnectionPlan):
    """The same mean."""

    builder: ClassVar[str] = "evo.blocks.streams.channels.module:ChannelsEnd"


class ChannelStreams(StreamsSpec):
    """Sublayers read the mean of normed streams, each channel of each times a gate that all of them make by way of a
    narrow vector, and add to each stream by a gate (Qwen4-Exp). No norm needs to stand before a sublayer, nor behind
    the stage."""

    kind: ClassVar[str | None] = "channels"
    ends_normed: ClassVar[bool] = True

    count: Count = 4
    """How many streams."""
    rank: Annotated[int, Field(ge=1, le=65536), Gene(4, 512, "x2"), WIDENING] = 16
    """Width of what gates of channels are made of."""
    magnitude: Factor = 2.0
    """The largest gate of what is written."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of each stream; with `gain: heads`, each has gains of its own."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.norm, NormSpec):
            yield from self.norm.head_problems(self.count, scope.width, ("norm",))

    def connection(self, scope: Scope, index: int) -> ChannelsPlan:
        del index
        values = self.count * scope.width
        maps = (
            linear("down", self.rank, values),
            linear("up", values, self.rank),
            linear("write", self.count, values),
        )
        return ChannelsPlan(
            kind=self.label,
            weights=maps,
            cost=Cost(flops=matmul_flops(maps) + 5.0 * values, activations=4 * values + self.rank),
            children=self._norm(scope),
            count=self.count,
            magnitude=self.magnitude,
        )

    def end(self, scope: Scope) -> ChannelsEndPlan:
        values = self.count * scope.width
        maps = (linear("down", self.rank, values), linear("up", values, self.rank))
        cost = Cost(flops=matmul_flops(maps) + 3.0 * values, activations=3 * values + self.rank)
        return ChannelsEndPlan(
            kind="streams' gated mean", weights=maps, cost=cost, children=self._norm(scope), count=self.count
        )

    def _norm(self, scope: Scope) -> tuple[tuple[str, BlockPlan], ...]:
        assert isinstance(self.norm, NormSpec)
        return (("norm", self.norm.over_heads(self.count, scope.width)),)
