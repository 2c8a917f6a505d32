"""Streams: two that are read as their mean and written alike."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from evo.blocks.flow import Flow
from evo.blocks.streams.module import Connection, Read
from evo.blocks.streams.spec import ConnectionPlan, PooledPlan, StreamsSpec
from evo.dsl.plan import ONES, vector
from evo.dsl.spec import Scope


@dataclass(frozen=True, kw_only=True)
class TwinPlan(ConnectionPlan):
    """A gain for each stream."""

    builder: ClassVar[str] = "strangers.streams:Twin"


class TwinStreams(StreamsSpec):
    """Two streams."""

    kind: ClassVar[str | None] = "twins"

    def connection(self, scope: Scope, index: int) -> TwinPlan:
        return TwinPlan(kind=self.label, weights=(vector("gains", 2, ONES),), count=2)

    def end(self, scope: Scope) -> PooledPlan:
        return PooledPlan(kind="mean", count=2, factor=0.5)


class Twin(Connection):
    """See the spec."""

    gains: nn.Parameter

    def read(self, x_BTND: Tensor, flow: Flow) -> Read:
        """Their mean."""
        return x_BTND.mean(-2), x_BTND, self.gains
