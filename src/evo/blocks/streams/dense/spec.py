"""The language and the plans of layers that read sums of what all earlier layers gave."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import Eps
from evo.blocks.streams.spec import ConnectionPlan, StreamsSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.layers import LayerPlan
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.spec import KV, VALUES, Scope


@dataclass(frozen=True, kw_only=True)
class DensePlan(ConnectionPlan):
    """Sums of every `every`-th of the latest states, `count` in all. eps: of the norm that shares depend on. apart: the
    names of the sums besides the one that the residual goes on from. gives: which of keys and values are maps of sums,
    through norms of their own if the layer's queries are."""

    builder: ClassVar[str] = "evo.blocks.streams.dense.module:Dense"
    every: int
    eps: float
    apart: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()


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
    (DenseFormer, Pagliardini et al. 2402.02622) and may depend on the token (MUDD, Xiao et al. 2502.12170); the stage
    gives another such sum."""

    kind: ClassVar[str | None] = "dense"
    wraps_layers: ClassVar[bool] = True
    counts_layers: ClassVar[bool] = True

    dynamic: bool = True
    """Whether shares depend on the token."""
    ways: Literal["one", "block", "qkv"] = "one"
    """Which sums a layer has. block: one for what its first block reads, and another that the residual goes on from.
    qkv: the same, and one each for keys and values, with a norm of its own where the queries' has one (MUDD)."""
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
        return self.ways != "qkv"  # the norms of keys and values are new, and the queries' has learned

    @property
    def gives_kv(self) -> bool:
        return self.ways == "qkv"

    def connection(self, scope: Scope, index: int) -> DensePlan:
        """index: how many layers of the stage stand before. Before the first there is but one state to read."""
        return self._reading(scope, index, {"one": (), "block": ("q",), "qkv": ("q", "k", "v")}[self.ways])

    def _reading(self, scope: Scope, index: int, apart: tuple[str, ...]) -> DensePlan:
        apart = apart if index else ()
        count, weights, cost = self._reads(scope, index + 1, apart)
        return DensePlan(
            kind=self.label, weights=weights, cost=cost, count=count, every=self.every, eps=self.eps, apart=apart
        )

    def around(self, scope: Scope, index: int, layer: LayerPlan) -> DensePlan:
        """No sums for keys and values where the layer's blocks have none, nor for values where these are its keys."""
        if not self.gives_kv:
            return self.connection(scope, index)
        read = {
            signal for name in layer.block_names() for block in layer.child(name).blocks() for signal in block.inputs
        }
        given = tuple(name for name, signal in (("k", KV), ("v", VALUES)) if signal in read)
        plan = self._reading(scope, index, ("q", *given))
        norm = layer.sublayers[0].branches[0].norm_in if given else None
        norms = () if norm is None else tuple((f"{name}_norm", layer.child(norm)) for name in given)
        return replace(plan, children=norms, gives=given)

    def begin(self, scope: Scope) -> BlockPlan:
        return FirstPlan(kind="first state", count=1)

    def end(self, scope: Scope) -> DenseEndPlan:
        return self.end_behind(scope, 1)

    def end_behind(self, scope: Scope, layers: int) -> DenseEndPlan:
        count, weights, cost = self._reads(scope, layers + 1, ())
        return DenseEndPlan(kind="states' sum", weights=weights, cost=cost, count=count, every=self.every, eps=self.eps)

    def _reads(self, scope: Scope, states: int, apart: tuple[str, ...]) -> tuple[int, tuple[Weight, ...], Cost]:
        """How many of so many states are read, what makes their shares in each sum, and what that costs."""
        count, width, sums = -(-states // self.every), scope.width, 1 + len(apart)
        latest, rank = Init("diagonal", count - 1, 1.0), self.rank or sums * count
        weights = [vector(name, count, latest) for name in ("shares", *(f"{name}_shares" for name in apart))]
        maps = (linear("down", rank, width), Weight("up", (sums * count, rank), ZEROS, ("out", "in"), "matrix"))
        maps = maps if self.dynamic else ()
        flops = matmul_flops(maps) + 2.0 * sums * count * width + (3.0 * width if self.dynamic else 0.0)
        kept = (states + len(apart)) * width + (2 * width + 2 * rank if self.dynamic else 0)
        return count, (*weights, *maps), Cost(flops=flops, activations=kept)
