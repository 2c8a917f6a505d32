"""The resolved form of a block: every dimension a concrete number, every weight with its shape and initial law.

A block's spec makes its plan, the module is built from the plan's weights, and the cost is counted from the same
weights; so counted parameters equal built parameters, always.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

Axis = Literal["out", "in", "stack", "rows", "taps", "channel"]
"""What one axis of a weight counts: `out` and `in` of a linear map, a `stack` of equal parts (experts, sources,
branches), `rows` of a table that is looked up, `taps` of a convolution (the latest last), or a `channel`."""
Group = Literal["matrix", "embedding", "readout", "taps", "vector"]
"""What a weight is to an optimizer: a `matrix` inside the network, a table looked up by token or position
(`embedding`), the map to the vocabulary (`readout`), `taps` of a convolution, or a `vector`: gains, biases, rates, in
any number of dimensions."""


@dataclass(frozen=True)
class Init:
    """How a weight starts. Draws depend on the seed and the weight's own path alone.

    normal: N(0, a²). constant: a. uniform: U[a, b]. timestep: inverse softplus of a log-uniform draw from [a, b].
    log_count: log(a + i) at place i of the last axis. ring: x with exp(-2 softplus(x)) uniform in [a², b²]. ramp: from
    a to b in equal steps along the last axis. leading: b at the first a places of the last axis, 0 behind them.
    cycle: whole numbers below a, a random one at the first place of the last axis, and from there on in a circle.
    diagonal: b where the last axis is a places on from the one before it (from 0 in a vector), 0 elsewhere. orthogonal:
    N(0, a²) by row, of which each as many as there are columns are orthogonal.
    """

    law: Literal[
        "normal",
        "constant",
        "uniform",
        "timestep",
        "log_count",
        "ring",
        "ramp",
        "leading",
        "cycle",
        "diagonal",
        "orthogonal",
    ]
    a: float
    b: float = 0.0


ZEROS = Init("constant", 0.0)
ONES = Init("constant", 1.0)


@dataclass(frozen=True)
class Weight:
    """One parameter tensor, with all that its readers need to know of it.

    axes: what each dimension counts; a linear map is always (..., out, in). group: what it is to an optimizer. share:
    how much of it one token meets (top_k / experts). writes_residual: whether it is the last linear map before the
    residual stream. reads_out: whether it is a table (rows, channel) that is the map to the vocabulary as well.

    Raises:
        ValueError: the axes do not fit the shape, or a linear map is not (..., out, in).
    """

    name: str
    shape: tuple[int, ...]
    init: Init
    axes: tuple[Axis, ...]
    group: Group = "vector"
    share: float = 1.0
    writes_residual: bool = False
    reads_out: bool = False

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.shape):
            raise ValueError(f"{self.name}: {len(self.axes)} axes for {len(self.shape)} dimensions")
        if ("in" in self.axes or "out" in self.axes) and self.axes[-2:] != ("out", "in"):
            raise ValueError(f"{self.name}: a linear map is (..., out, in), not {self.axes}")

    @property
    def count(self) -> int:
        """The number of parameters."""
        return math.prod(self.shape)

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear map, or a stack of them."""
        return self.axes[-1:] == ("in",)


def linear(
    name: str, out_features: int, in_features: int, gain: float = 1.0, *, writes_residual: bool = False
) -> Weight:
    """A matrix (out, in) applied to every token, drawn from N(0, gain² / in_features)."""
    init = Init("normal", gain / math.sqrt(in_features))
    return Weight(name, (out_features, in_features), init, ("out", "in"), "matrix", writes_residual=writes_residual)


def vector(name: str, size: int, init: Init) -> Weight:
    """One number a channel: a gain, a bias, a rate."""
    return Weight(name, (size,), init, ("channel",))


def gains(name: str, count: int, width: int) -> Weight:
    """Gains per channel of `count` summands, (count, width), that begin as their mean."""
    return Weight(name, (count, width), Init("constant", 1.0 / count), ("stack", "channel"))


def taps(name: str, width: int, size: int) -> Weight:
    """The taps of a depthwise convolution, (width, size), the latest token's last, drawn from N(0, 1 / size)."""
    return Weight(name, (width, size), Init("normal", size**-0.5), ("channel", "taps"), "taps")


def table(name: str, rows: int, width: int, std: float) -> Weight:
    """Vectors that are looked up, (rows, width), drawn from N(0, std²)."""
    return Weight(name, (rows, width), Init("normal", std), ("rows", "channel"), "embedding")


@dataclass(frozen=True)
class Cost:
    """What one token costs in one block, on average over a full context.

    flops: forward floating-point operations (a multiply-add is two), parameters included. cache_per_token: values kept
    for every token that the block has seen while decoding (keys and values), until `cache_limit` tokens if that is set.
    state: values of fixed size kept while decoding. activations: values kept for the backward pass. cache_vectors: the
    widths of the vectors among `cache_per_token` that a cache policy may keep in fewer bits. evicting_heads: how many
    key heads may each keep other positions, where a cache policy asks for the heaviest; 0 for none. seen_per_token: how
    many tokens the block sees for each one of the text: fewer in patches, more beside memory tokens. Whatever speaks of
    the cache counts those that the block sees.
    """

    flops: float = 0.0
    cache_per_token: int = 0
    cache_limit: int | None = None
    state: int = 0
    activations: int = 0
    cache_vectors: tuple[int, ...] = ()
    evicting_heads: int = 0
    seen_per_token: float = 1.0

    @property
    def cache_growth(self) -> int:
        """Values that each further token of the text adds to its cache, until that is full."""
        return math.ceil(self.cache_per_token * self.seen_per_token)

    def kept(self, tokens: int, limit: int | None) -> int:
        """Of how many tokens a cache of at most `limit` holds something, after so many of the text."""
        seen = math.ceil(round(tokens * self.seen_per_token, 6))  # 525 / 75 is 7, and not a little more
        return seen if limit is None else min(seen, limit)


ADAPTERS = "adapters"
"""What stands in the paths of a block's adapters, between its own and the name of a map."""


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """One block, ready to be built by `builder` ("package.module:Class"). Each kind has a plan class of its own.

    A plan class adds the concrete numbers that its module reads, as typed fields: they are its settings. What any
    reader may ask for stands here.

    kind: what people call it. children: blocks it contains, received built. inputs: the named values it reads from the
    flow besides x. outputs: those it puts there for later blocks. losses: the names of those it adds to the task's.
    has_state: whether decoding keeps a state for it. absorbed: the linear maps that it makes others of. lent: the names
    and shapes of its linear maps that what holds it computes, of weights of its own. late: the linear maps that meet no
    input in a pass of a few tokens. adapters: what stands beside its linear maps, by the map's name.
    """

    builder: ClassVar[str]
    is_layer: ClassVar[bool] = False
    """Whether it is one layer of a stage: what gradient flow is compared between."""
    is_adapter: ClassVar[bool] = False
    """Whether it is trained in place of a map of the block that it belongs to."""
    runs_once: ClassVar[bool] = False
    """Whether it runs once a pass, for all rows of a batch together."""
    summed_by: ClassVar[str] = ""
    """The name of the weight whose entries scale its children in order, where it is their sum and nothing else."""
    chooses: ClassVar[bool] = False
    """Whether what a token meets turns on which of some numbers is larger, so that a small error may change much."""
    gathers: ClassVar[bool] = False
    """Whether what it contains meets only some tokens of each row; from states, of one row after the other."""
    recasts_maps: ClassVar[bool] = False
    """Whether linear maps inside are read in another form than they are kept in."""
    ends_with_context: ClassVar[bool] = False
    """Whether it is made for the context's length and computes nothing beyond."""
    begins_as: ClassVar[str] = ""
    """The name of the child that it computes the same as at first, where there is one."""
    kind: str
    weights: tuple[Weight, ...] = ()
    cost: Cost = Cost()
    children: tuple[tuple[str, BlockPlan], ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    has_state: bool = False
    absorbed: tuple[str, ...] = ()
    lent: tuple[tuple[str, tuple[int, ...]], ...] = ()
    late: tuple[str, ...] = ()
    adapters: tuple[tuple[str, AdapterPlan], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The fields that its own plan class adds, for people to read."""
        common = {field.name for field in fields(BlockPlan)}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in common}

    @property
    def is_frozen(self) -> bool:
        """Whether its weights, and those of what it contains, stay as they are: nothing learns through it."""
        return False

    def over_streams(self, count: int) -> BlockPlan | None:
        """The same block where it reads and adds to all of several residual streams itself; None if it has one stream
        between them, as most have."""
        del count
        return None

    @property
    def inside(self) -> tuple[tuple[str, BlockPlan], ...]:
        """Its children and adapters by dotted path."""
        return (*self.children, *((f"{ADAPTERS}.{name}", adapter) for name, adapter in self.adapters))

    def named_weights(self, prefix: str) -> Iterator[tuple[str, Weight]]:
        """Every weight of this block and those it contains, by dotted path."""
        for weight in self.weights:
            yield f"{prefix}.{weight.name}", weight
        for name, part in self.inside:
            yield from part.named_weights(f"{prefix}.{name}")

    def named_blocks(self, prefix: str) -> Iterator[tuple[str, BlockPlan]]:
        """This block and all that it contains, each once, by dotted path."""
        yield prefix, self
        for name, part in self.inside:
            yield from part.named_blocks(f"{prefix}.{name}")

    def blocks(self) -> Iterator[BlockPlan]:
        """This block and all that it contains, as often as they run on a token."""
        yield self
        for _, part in self.inside:
            yield from part.blocks()

    def running(self, other: BlockPlan, make: Callable[[BlockPlan, BlockPlan], BlockPlan]) -> Self:
        """The block with what `make` gives for each block that it runs and does not contain, and for the one that
        `other`, the same block elsewhere, runs in its place."""
        del other, make
        return self

    def with_adapters(self, beside: Callable[[BlockPlan], tuple[tuple[str, AdapterPlan], ...]]) -> Self:
        """The block, and all that it contains, with further adapters: those that `beside` gives for each block. What is
        frozen gets none."""
        if self.is_frozen:
            return self
        children = tuple((name, child.with_adapters(beside)) for name, child in self.children)
        return replace(self, children=children, adapters=(*self.adapters, *beside(self)))

    @property
    def can_be_silent(self) -> bool:
        """Whether its output is zero while the maps that write it are: then a new one adds nothing at first."""
        if self.outlets:
            return all(outlet.can_be_silent for outlet in self.outlets)
        return any(weight.writes_residual for _, weight in self.named_weights(""))

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        """The blocks inside that its output is made of, zero where theirs are; none where maps of its own write it."""
        return ()

    @property
    def parameters(self) -> int:
        """The number of parameters, children included."""
        return sum(weight.count for _, weight in self.named_weights(""))

    @property
    def flops(self) -> float:
        """Forward floating-point operations per token, children included."""
        return sum(block.cost.flops for block in self.blocks())


@dataclass(frozen=True, kw_only=True)
class AdapterPlan(BlockPlan):
    """What is trained in place of one linear map of the block that it belongs to, or beside it."""

    is_adapter: ClassVar[bool] = True
    sums: ClassVar[bool] = False
    """Whether any weighted sum of what several of it have learned is one too, so that they can be mixed."""
    is_alone: bool = True
    """Whether it is trained while its map, and all else, stays as it was."""
    spared_bytes: int = 0
    """Bytes that the map takes less than in float32, because the adapter keeps it in another form."""

    def with_adapters(self, beside: Callable[[BlockPlan], tuple[tuple[str, AdapterPlan], ...]]) -> Self:
        """As it is: an adapter has none."""
        del beside
        return self


def matmul_flops(weights: tuple[Weight, ...]) -> float:
    """Two operations for every parameter of maps and taps that a token meets."""
    return 2.0 * sum(weight.count * weight.share for weight in weights if weight.is_linear or weight.group == "taps")


def stacked(plan: BlockPlan, count: int, top: int) -> BlockPlan:
    """So many blocks of one plan as one, with stacks of weights; a token meets `top` of them."""
    share = min(1.0, top / count)
    weights = tuple(
        replace(weight, shape=(count, *weight.shape), axes=("stack", *weight.axes), share=weight.share * share)
        for weight in plan.weights
    )
    met = min(top, count)
    cost = replace(plan.cost, flops=plan.cost.flops * met, activations=plan.cost.activations * met)
    children = tuple((name, stacked(child, count, top)) for name, child in plan.children)
    return replace(plan, weights=weights, cost=cost, children=children)
