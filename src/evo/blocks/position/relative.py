"""The language and the plans of biases of scores by distance: of buckets, of learned functions, of the query."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.position.spec import ActsOn, PositionSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, table, vector
from evo.dsl.spec import Fault, Scope


@dataclass(frozen=True, kw_only=True)
class BucketsPlan(BlockPlan):
    """A learned bias for each head and bucket of distances; later keys have half of the buckets if `both`."""

    builder: ClassVar[str] = "evo.blocks.position.biases:Buckets"
    buckets: int
    furthest: int
    both: bool


@dataclass(frozen=True, kw_only=True)
class KerplePlan(BlockPlan):
    """Scores that fall with distance by a law of two numbers a head: a logarithm, or a power if `is_power`."""

    builder: ClassVar[str] = "evo.blocks.position.biases:Kerple"
    runs_once: ClassVar[bool] = True
    is_power: bool


@dataclass(frozen=True, kw_only=True)
class FirePlan(BlockPlan):
    """A small network of the distance over the query's position, which counts as `threshold` at least."""

    builder: ClassVar[str] = "evo.blocks.position.biases:Fire"
    runs_once: ClassVar[bool] = True
    threshold: int


@dataclass(frozen=True, kw_only=True)
class QueriedPlan(BlockPlan):
    """A bias at each distance below `extent` that a token's vector of `rank` channels a head mixes from profiles."""

    builder: ClassVar[str] = "evo.blocks.position.biases:Queried"
    heads: int
    rank: int
    extent: int


@dataclass(frozen=True, kw_only=True)
class RelativePlan(BlockPlan):
    """A vector for each distance, which queries meet as they meet keys."""

    builder: ClassVar[str] = "evo.blocks.position.biases:Relative"


@dataclass(frozen=True, kw_only=True)
class XLPlan(BlockPlan):
    """Transformer-XL's four terms: `frequencies` of the sinusoids of distance, over `heads` of width `head_dim`."""

    builder: ClassVar[str] = "evo.blocks.position.biases:TransformerXL"
    runs_once: ClassVar[bool] = True
    heads: int
    head_dim: int
    width: int
    frequencies: tuple[float, ...]


class BucketsSpec(PositionSpec):
    """Scores get a learned bias by head and by bucket of distance, wider ones further away (Raffel et al. 2020)."""

    kind: ClassVar[str | None] = "buckets"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True
    is_one_sided: ClassVar[bool] = False

    buckets: Annotated[int, Field(ge=2, le=4096), Gene(8, 64, "x2")] = 32
    """How many; the first half of them hold one distance each."""
    furthest: Annotated[int, Field(ge=2), Gene(32, 1024, "x2")] = 128
    """The distance from which on all are in the last bucket."""
    both: Annotated[bool, FIXED] = False
    """Whether later keys have buckets of their own, half of all; otherwise they count as at distance 0."""

    def attention_problems(self, head_dim: int) -> Iterator[Fault]:
        del head_dim
        per_side = self.buckets // 2 if self.both else self.buckets
        if per_side // 2 < 1 or self.furthest <= per_side // 2:
            message = f"{self.buckets} buckets do not fit distances up to {self.furthest}"
            yield Fault("EVO361", ("furthest",), message, "more than half of a side's buckets, of which there are two")

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        return BucketsPlan(
            kind=self.label,
            weights=(table("bias", self.buckets, heads, 0.1),),
            cost=Cost(flops=float(heads * scope.context)),
            buckets=self.buckets,
            furthest=self.furthest,
            both=self.both,
        )


class KerpleSpec(PositionSpec):
    """Scores fall by a log(1 + b (t - s)) or by a (t - s)^b, a and b learned a head (KERPLE, Chi et al. 2205.09921)."""

    kind: ClassVar[str | None] = "kerple"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True

    form: Annotated[Literal["log", "power"], FIXED] = "log"
    """The law of distance."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        most = (1.0, 2.0) if self.form == "power" else (2.0, 1.0)  # as the authors draw them
        return KerplePlan(
            kind=self.label,
            weights=tuple(vector(name, heads, Init("uniform", 0.0, up)) for name, up in zip("ab", most, strict=True)),
            cost=Cost(flops=3.0 * heads * scope.context),
            is_power=self.form == "power",
        )


class FireSpec(PositionSpec):
    """Scores get MLP(log(1 + c (t - s)) / log(1 + c max(t, L))), c and L learned (FIRE, Li et al. 2310.04418)."""

    kind: ClassVar[str | None] = "fire"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True

    hidden: Annotated[int, Field(ge=1, le=4096), Gene(8, 64, "x2")] = 32
    """Units of the network's hidden layer."""
    threshold: Annotated[int, Field(ge=1, le=1_000_000), Gene(16, 1024, "x2")] = 512
    """L at first: where queries stand before it, distance is not measured by their position."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        out = replace(linear("out", heads, self.hidden), share=float(scope.context))  # every pair meets it
        layer = (vector("rate", self.hidden, Init("uniform", -1.0, 1.0)), vector("shift", self.hidden, ZEROS))
        return FirePlan(
            kind=self.label,
            weights=(vector("c", 1, Init("constant", 0.1)), vector("reach", 1, ONES), *layer, out),
            cost=Cost(flops=matmul_flops((out,)) + 3.0 * self.hidden * scope.context),
            threshold=self.threshold,
        )


class QueriedSpec(PositionSpec):
    """Scores get a bias by distance that the query's token mixes from learned profiles (Inkling)."""

    kind: ClassVar[str | None] = "queried"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True

    rank: Annotated[int, Field(ge=1, le=4096), Gene(2, 32, "x2")] = 8
    """How many profiles a head mixes."""
    extent: Annotated[int, Field(ge=1, le=1_000_000), Gene(16, 512, "x2")] = 64
    """Distances from here on have no bias."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        mixed = linear("r", heads * self.rank, scope.width)
        profiles = replace(linear("profiles", self.extent, self.rank), share=float(heads))  # each head meets them
        return QueriedPlan(
            kind=self.label,
            weights=(mixed, profiles),
            cost=Cost(flops=matmul_flops((mixed, profiles)), activations=heads * (self.rank + self.extent)),
            heads=heads,
            rank=self.rank,
            extent=self.extent,
        )


class RelativeSpec(PositionSpec):
    """Scores get scale q_t e(t - s), e a learned vector for each distance (Shaw et al. 1803.02155; Music Transformer,
    Huang et al. 1809.04281)."""

    kind: ClassVar[str | None] = "relative"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True

    furthest: Annotated[int, Field(ge=1, le=1_000_000), Gene(8, 512, "x2")] = 16
    """The distance from which on all have one vector."""
    per: Literal["head", "all"] = "all"
    """Whether each head has vectors of its own (Music Transformer), or all share them (Shaw et al.)."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        shared = linear("vectors", self.furthest + 1, head_dim)
        each = Weight("vectors", (heads, *shared.shape), shared.init, ("stack", "out", "in"), "matrix")
        flops = 2.0 * heads * shared.count
        return RelativePlan(
            kind=self.label,
            weights=(each if self.per == "head" else replace(shared, share=float(heads)),),  # each head meets them
            cost=Cost(flops=flops + heads * scope.context, activations=heads * (self.furthest + 1)),
        )


class TransformerXLSpec(PositionSpec):
    """scale ((q + u) k + (q + v) W_r sinusoids(t - s)) with learned u and v (Dai et al. 2019)."""

    kind: ClassVar[str | None] = "xl"
    acts_on: ClassVar[ActsOn] = "scores"
    adds_bias: ClassVar[bool] = True

    theta: Annotated[float, Field(gt=1), Gene(100, 1e6, "scale")] = 10000.0
    """Base of the wavelengths."""

    def for_heads(self, scope: Scope, heads: int, head_dim: int) -> BlockPlan:
        pairs = scope.width // 2
        turns = linear("r", heads * head_dim, 2 * pairs)
        return XLPlan(
            kind=self.label,
            weights=(turns, *(vector(name, heads * head_dim, ZEROS) for name in ("u", "v"))),
            cost=Cost(flops=matmul_flops((turns,)) + 2.0 * heads * head_dim * scope.context),
            heads=heads,
            head_dim=head_dim,
            width=2 * pairs,
            frequencies=tuple(self.theta ** (-i / pairs) for i in range(pairs)),
        )
