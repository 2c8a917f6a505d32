"""The language and the plans of residual streams side by side."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import Eps, NormSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import LayerPlan
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec

Count = Annotated[int, Field(ge=2, le=16), Gene(2, 8, "+1")]
Factor = Annotated[float, Field(gt=0, le=100), FIXED]
SCALE = Init("constant", 0.01)
"""How much of what depends on the streams counts at first (2409.19606, 2512.24880)."""
OWN = 8.0
"""The logit at first of a stream's own share in a mix, beside zeros for the others'."""


@dataclass(frozen=True, kw_only=True)
class ConnectionPlan(BlockPlan):
    """What stands between `count` streams and a sublayer."""

    count: int


@dataclass(frozen=True, kw_only=True)
class HyperPlan(ConnectionPlan):
    """Learned numbers, and what the streams change about them; eps: of the norm that these pass."""

    builder: ClassVar[str] = "evo.blocks.streams.module:Hyper"
    eps: float


@dataclass(frozen=True, kw_only=True)
class PooledPlan(ConnectionPlan):
    """The end of streams as their sum, times a number."""

    builder: ClassVar[str] = "evo.blocks.streams.module:Pooled"
    factor: float


@dataclass(frozen=True, kw_only=True)
class GatesPlan(ConnectionPlan):
    """Gates by all streams. magnitude: of what writes; write_eps: added to it; iterations: of a mix, 0 for none."""

    builder: ClassVar[str] = "evo.blocks.streams.module:Gates"
    eps: float
    norm_eps: float
    magnitude: float
    write_eps: float
    iterations: int


@dataclass(frozen=True, kw_only=True)
class GatedEndPlan(ConnectionPlan):
    """The end of streams as a sum with gates."""

    builder: ClassVar[str] = "evo.blocks.streams.module:GatedEnd"
    eps: float
    norm_eps: float


@dataclass(frozen=True, kw_only=True)
class DualPlan(ConnectionPlan):
    """Two streams: one with a norm behind every sum, one with none."""

    builder: ClassVar[str] = "evo.blocks.streams.module:Dual"


@dataclass(frozen=True, kw_only=True)
class DualEndPlan(ConnectionPlan):
    """The first of them, and the norm of the second."""

    builder: ClassVar[str] = "evo.blocks.streams.module:DualEnd"


class StreamsSpec(Spec):
    """How many residual streams a stage has, and how its sublayers, or its layers, read and write them."""

    wraps_layers: ClassVar[bool] = False
    """Whether a connection stands around each layer, whose sublayers have one stream between them, instead of around
    each sublayer."""
    counts_layers: ClassVar[bool] = False
    """Whether a connection, and the end, depends on how many layers, or sublayers where it stands around each of them,
    stand before it. `connection` is told these as its index, and `end_behind` how many there are."""
    keeps_count: ClassVar[bool] = True
    """Whether there are as many of them behind a sublayer as before it, each as wide as the stream."""
    ends_normed: ClassVar[bool] = False
    """Whether their end gives what norms have passed, so that none needs to stand before the readout."""

    @property
    def gives_kv(self) -> bool:
        """Whether keys and values of its layers are maps of what they are given under `KV` and `VALUES`."""
        return False

    @property
    def set_aside(self) -> int:
        """How many of a layer's last sublayers stand outside of the connection around it."""
        return 0

    @property
    def is_plain_at_first(self) -> bool:
        """Whether a stage computes with new ones exactly what it does without."""
        return False

    @abstractmethod
    def connection(self, scope: Scope, index: int) -> ConnectionPlan:
        """What stands around the sublayer of that index in its stage, or around the layer that it begins."""

    def around(self, scope: Scope, index: int, layer: LayerPlan) -> ConnectionPlan:
        """The same of a layer, for connections that depend on what it is."""
        del layer
        return self.connection(scope, index)

    def begin(self, scope: Scope) -> BlockPlan | None:
        """What makes them of one vector; they are copies of it if None."""
        del scope
        return None

    @abstractmethod
    def end(self, scope: Scope) -> ConnectionPlan:
        """What makes one vector of them."""

    def end_behind(self, scope: Scope, layers: int) -> ConnectionPlan:
        """The same behind so many layers."""
        del layers
        return self.end(scope)


class HyperStreams(StreamsSpec):
    """Hyper-connections (Zhu et al. 2024): shares of all streams that are learned, and may depend on them."""

    kind: ClassVar[str | None] = "hyper"

    count: Count = 4
    """How many streams."""
    dynamic: bool = True
    """Whether the numbers depend on the streams."""
    end_: Annotated[Literal["mean", "sum"], FIXED] = "mean"
    """What the stage gives: the mean of the streams, or their sum, as published."""
    eps: Eps = 1e-6
    """Added to the mean square of a stream that numbers depend on."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.dynamic else frozenset({"eps"})

    @property
    def is_plain_at_first(self) -> bool:
        return self.end_ == "mean"

    def connection(self, scope: Scope, index: int) -> HyperPlan:
        count, width = self.count, scope.width
        weights = (
            vector("reads", count, Init("diagonal", index % count, 1.0)),
            Weight("mix", (count, count), Init("diagonal", 0, 1.0), ("stack", "channel")),
            vector("writes", count, ONES),
        )
        maps = (Weight("changes", (count + 2, width), ZEROS, ("out", "in"), "matrix"),) if self.dynamic else ()
        scales = (vector("scales", 2, SCALE),) if self.dynamic else ()
        values = count * width
        flops = 2.0 * values * (count + 2) + count * matmul_flops(maps) + (4.0 * values if maps else 0.0)
        kept = 2 * values * (2 if maps else 1)
        return HyperPlan(
            kind=self.label,
            weights=(*weights, *maps, *scales),
            cost=Cost(flops=flops, activations=kept),
            count=count,
            eps=self.eps,
        )

    def end(self, scope: Scope) -> PooledPlan:
        factor = 1.0 / self.count if self.end_ == "mean" else 1.0
        cost = Cost(flops=float(self.count * scope.width))
        return PooledPlan(kind=f"streams' {self.end_}", cost=cost, count=self.count, factor=factor)


class GatesStreams(StreamsSpec):
    """Gates on what is read and written (HY-V4); the streams themselves stay as they are."""

    kind: ClassVar[str | None] = "gates"

    count: Count = 4
    """How many streams."""
    magnitude: Factor = 2.0
    """The largest gate of what is written."""
    eps: Eps = 1e-6
    """Added to every gate."""
    norm_eps: Eps = 1e-6
    """Added to the mean square that gates depend on."""

    def connection(self, scope: Scope, index: int) -> GatesPlan:
        del index
        return _gates(self.label, scope.width, self.count, self.eps, self.norm_eps, self.magnitude, self.eps, 0)

    def end(self, scope: Scope) -> GatedEndPlan:
        return _gated_end(scope.width, self.count, self.eps, self.norm_eps)


class SinkhornStreams(StreamsSpec):
    """The same with a mix of streams whose rows and columns sum to one (mHC, Xie et al. 2025), as in DeepSeek-V4."""

    kind: ClassVar[str | None] = "sinkhorn"

    count: Count = 4
    """How many streams."""
    iterations: Annotated[int, Field(ge=1, le=100), FIXED] = 20
    """How often rows and columns are divided by their sums."""
    eps: Eps = 1e-6
    """Added to gates of what is read, to shares and to their sums."""
    norm_eps: Eps = 1e-6
    """Added to the mean square that gates depend on."""

    def connection(self, scope: Scope, index: int) -> GatesPlan:
        del index
        return _gates(self.label, scope.width, self.count, self.eps, self.norm_eps, 2.0, 0.0, self.iterations)

    def end(self, scope: Scope) -> GatedEndPlan:
        return _gated_end(scope.width, self.count, self.eps, self.norm_eps)


class DualStreams(StreamsSpec):
    """Two streams: blocks read the one with a norm behind every sum; the other has none (ResiDual, Xie et al. 2023)."""

    kind: ClassVar[str | None] = "dual"

    norm: Annotated[Spec, RoleOf("norm", default="rms")] = DEFAULT
    """The norm of both."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("norm",))

    def connection(self, scope: Scope, index: int) -> DualPlan:
        del index
        cost = Cost(flops=2.0 * scope.width, activations=2 * scope.width)
        return DualPlan(kind=self.label, cost=cost, children=self._norm(scope), count=2)

    def end(self, scope: Scope) -> DualEndPlan:
        return DualEndPlan(kind="streams' sum", cost=Cost(flops=1.0 * scope.width), children=self._norm(scope), count=2)

    def _norm(self, scope: Scope) -> tuple[tuple[str, BlockPlan], ...]:
        assert isinstance(self.norm, NormSpec)
        return (("norm", self.norm.plan(scope)),)


def _gates(
    kind: str, width: int, count: int, eps: float, norm_eps: float, magnitude: float, write_eps: float, iterations: int
) -> GatesPlan:
    mixes = count * count if iterations else 0
    maps = (linear("maps", 2 * count + mixes, count * width),)
    weights = [*maps, vector("read_bias", count, _even(count)), vector("write_bias", count, ZEROS)]
    if mixes:
        weights.append(Weight("mix_bias", (count, count), Init("diagonal", 0, OWN), ("stack", "channel")))
    weights.append(vector("scales", 3 if mixes else 2, SCALE))
    values = count * width
    flops = matmul_flops(maps) + 8.0 * values + 2.0 * mixes * (width + 2 * iterations)
    return GatesPlan(
        kind=kind,
        weights=tuple(weights),
        cost=Cost(flops=flops, activations=3 * values),
        count=count,
        eps=eps,
        norm_eps=norm_eps,
        magnitude=magnitude,
        write_eps=write_eps,
        iterations=iterations,
    )


def _gated_end(width: int, count: int, eps: float, norm_eps: float) -> GatedEndPlan:
    maps = (linear("maps", count, count * width),)
    weights = (*maps, vector("bias", count, _even(count)), vector("scale", 1, SCALE))
    cost = Cost(flops=matmul_flops(maps) + 6.0 * count * width, activations=2 * count * width)
    return GatedEndPlan(kind="streams' gated sum", weights=weights, cost=cost, count=count, eps=eps, norm_eps=norm_eps)


def _even(count: int) -> Init:
    """A bias whose sigmoid is 1 / count."""
    return Init("constant", -math.log(count - 1))
