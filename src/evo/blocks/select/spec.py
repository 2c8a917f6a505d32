"""The language and the plans of selections: which of the earlier keys a query of an attention meets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.position.spec import PositionSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, linear, matmul_flops, vector
from evo.dsl.references import placed
from evo.dsl.spec import Fault, Scope, Spec


@dataclass(frozen=True)
class Asker:
    """The attention whose keys are chosen.

    groups: key heads, which queries of `heads` heads share. made_of: the width of the vector that its queries are made
    of, 0 where that is the stream itself. has_heads: whether its keys and values are there by head while it decodes.
    values_are_keys: whether both are one.
    """

    heads: int
    groups: int
    key_dim: int
    value_dim: int
    position: PositionSpec
    made_of: int
    has_heads: bool = True
    values_are_keys: bool = False


@dataclass(frozen=True, kw_only=True)
class CompressedPlan(BlockPlan):
    """Three branches by gates: means of blocks, the best `top` blocks, and the last `window` tokens."""

    builder: ClassVar[str] = "evo.blocks.select.compressed:Compressed"
    chooses: ClassVar[bool] = True
    heads: int
    size: int
    top: int
    window: int


@dataclass(frozen=True, kw_only=True)
class ByValuesPlan(BlockPlan):
    """A choice of the best `top` tokens by what their values are worth to each key head."""

    builder: ClassVar[str] = "evo.blocks.select.values:ByValues"
    chooses: ClassVar[bool] = True
    top: int


@dataclass(frozen=True, kw_only=True)
class ByMeansPlan(BlockPlan):
    """A choice of a query's own block of `size` tokens and the best earlier ones by their mean keys, `top` in all."""

    builder: ClassVar[str] = "evo.blocks.select.means:ByMeans"
    chooses: ClassVar[bool] = True
    size: int
    top: int


@dataclass(frozen=True, kw_only=True)
class NearestPlan(BlockPlan):
    """A query's own segment of `size` tokens, and by a gate the `top` earlier tokens nearest to it."""

    builder: ClassVar[str] = "evo.blocks.select.nearest:Nearest"
    chooses: ClassVar[bool] = True
    heads: int
    size: int
    top: int
    learns: bool


class SelectSpec(Spec):
    """Which of the earlier keys a query meets, by what they hold."""

    fits_stencils: ClassVar[bool] = False
    """Whether it leaves tokens to the stencil, and so goes with any causal one."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        """What keeps it from choosing for this attention; paths are relative to it."""
        del scope, asker
        return iter(())

    def chooser(self, scope: Scope, asker: Asker) -> BlockPlan:
        """The plan of the `Select` that stands in this attention."""
        raise NotImplementedError

    def pairs(self, context: int) -> int | None:
        """How many (query, key) pairs of a full context are left; None if that is decided elsewhere."""
        del context
        return None


def hides_nothing(pairs: int | None, context: int) -> bool:
    """Whether a causal attention over a context sees all the same."""
    return pairs is not None and pairs >= near_pairs(context, context)


class MeansSelect(SelectSpec):
    """The best `top` blocks by q times the mean of their keys, one choice for each head (MoBA, 2502.13189)."""

    kind: ClassVar[str | None] = "means"

    size: Annotated[int, Field(ge=1), Gene(4, 128, "x2")]
    """Tokens of a block."""
    top: Annotated[int, Field(ge=1), Gene(1, 32, "x2")]
    """How many blocks a query meets at most, its own among them."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        yield from _headless(asker, "means of blocks need keys")

    def chooser(self, scope: Scope, asker: Asker) -> ByMeansPlan:
        flops = asker.heads * asker.key_dim * scope.context / self.size  # half of all blocks, on average
        return ByMeansPlan(kind=self.label, cost=Cost(flops=flops), size=self.size, top=self.top)

    def pairs(self, context: int) -> int:
        return block_pairs(self.size, self.top, context)


class CompressedSelect(SelectSpec):
    """Means of blocks, the best blocks by them, and a window, each with a gate a head (NSA, Yuan et al. 2025)."""

    kind: ClassVar[str | None] = "compressed"

    size: Annotated[int, Field(ge=1), Gene(4, 128, "x2")]
    """Tokens of a block."""
    top: Annotated[int, Field(ge=1), Gene(1, 32, "x2")]
    """How many blocks a query meets token by token, the first, its own and the one before among them."""
    window: Annotated[int, Field(ge=1), Gene(4, 1024, "x2")]
    """How many of the last tokens it meets besides."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        yield from _headless(asker, "means of blocks need keys and values")

    def chooser(self, scope: Scope, asker: Asker) -> CompressedPlan:
        weights = (linear("gate", 3 * asker.heads, scope.width),)
        blocks, context = scope.context // self.size, scope.context
        means = blocks * (context + 1) - self.size * blocks * (blocks + 1) // 2
        near = near_pairs(self.window, context)
        flops = matmul_flops(weights) + 2.0 * asker.heads * (asker.key_dim + asker.value_dim) * (means + near) / context
        return CompressedPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(flops=flops, activations=3 * asker.heads * (1 + asker.value_dim)),
            heads=asker.heads,
            size=self.size,
            top=self.top,
            window=self.window,
        )

    def pairs(self, context: int) -> int:
        return block_pairs(self.size, self.top, context)


class NearestSelect(SelectSpec):
    """Attention within a query's own segment, and attention to the tokens of earlier segments whose keys have the
    largest products with it, a choice for each head; the two are mixed by a learned gate a head (Memorizing
    Transformers, Wu et al. 2203.08913)."""

    kind: ClassVar[str | None] = "nearest"

    size: Annotated[int, Field(ge=1), Gene(4, 1024, "x2")]
    """Tokens of a segment; the first begins with the sequence."""
    top: Annotated[int, Field(ge=1), Gene(1, 64, "x2")] = 32
    """How many tokens of earlier segments a head of a query meets at most."""
    learns: Annotated[bool, FIXED] = False
    """Whether what is met of earlier segments teaches their keys and values (as published, it does not)."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        yield from _headless(asker, "nearest tokens need keys")
        if self.size >= scope.context:
            message = f"a segment of {self.size} tokens leaves none before it in a context of {scope.context}"
            yield Fault("EVO360", ("size",), message, f"{scope.context - 1} at most")

    def chooser(self, scope: Scope, asker: Asker) -> NearestPlan:
        flops = asker.heads * asker.key_dim * scope.context  # half of all tokens, on average
        return NearestPlan(
            kind=self.label,
            weights=(vector("gate", asker.heads, ZEROS),),
            cost=Cost(flops=flops, activations=2 * asker.heads * asker.value_dim),
            heads=asker.heads,
            size=self.size,
            top=self.top,
            learns=self.learns,
        )

    def pairs(self, context: int) -> int:
        own = block_pairs(self.size, 1, context)
        return own + sum(min(self.top, self.size * (at // self.size)) for at in range(context))


class ValuesSelect(SelectSpec):
    """The best `top` earlier tokens by exp(a softplus(w v)) of each key head, added to scores (Doge, 2508.02124)."""

    kind: ClassVar[str | None] = "values"

    top: Annotated[int, Field(ge=1), Gene(4, 512, "x2")]
    """How many tokens a query meets at most; where there are no more, what is added is all that it does."""
    bias: Annotated[bool, FIXED] = False
    """Whether the map of values has a bias."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        yield from _headless(asker, "what values are worth needs them")

    def chooser(self, scope: Scope, asker: Asker) -> ByValuesPlan:
        weights = [linear("worth", asker.groups, asker.groups * asker.value_dim)]
        weights.append(vector("rate", asker.groups, Init("normal", 0.1)))
        if self.bias:
            weights.append(vector("worth_bias", asker.groups, ZEROS))
        cost = Cost(flops=matmul_flops(tuple(weights[:1])), activations=2 * asker.groups)
        return ByValuesPlan(kind=self.label, weights=tuple(weights), cost=cost, top=self.top)

    def pairs(self, context: int) -> int | None:
        return near_pairs(self.top, context) if self.top < context else None


def _headless(asker: Asker, needs: str) -> Iterator[Fault]:
    """What keeps a choice by heads from an attention that keeps none."""
    if not asker.has_heads:
        yield Fault("EVO360", (), f"{needs} by head, which this attention does not keep", "choose tokens or blocks")


def near_pairs(size: int, context: int) -> int:
    """Pairs of a causal context where each query meets at most `size` keys."""
    most = min(size, context)
    return most * (most + 1) // 2 + (context - most) * most


def block_pairs(size: int, top: int, context: int) -> int:
    """Pairs of a causal context where each query meets its own block so far and at most `top - 1` earlier ones."""
    whole, rest = divmod(context, size)
    own = whole * size * (size + 1) // 2 + rest * (rest + 1) // 2
    rising = min(whole, top)
    earlier = rising * (rising - 1) // 2 + (whole - rising) * (top - 1)
    return own + size * (size * earlier + rest * min(whole, top - 1))


def under(faults: Iterator[Fault], *path: str) -> Iterator[Fault]:
    """The same faults, seen from the spec that holds the selection."""
    return (placed(fault, *path) for fault in faults)
