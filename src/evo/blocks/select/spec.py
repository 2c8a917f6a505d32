"""The language and the plans of selections: which of the earlier keys a query of an attention meets."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.organism import NAME
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Init, Weight, linear, matmul_flops, vector
from evo.dsl.references import placed
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True)
class Asker:
    """The attention whose keys are chosen.

    groups: key heads, which queries of `heads` heads share. made_of: the width of what its queries are made of.
    has_heads: whether its keys and values are there by head while it decodes.
    """

    heads: int
    groups: int
    key_dim: int
    value_dim: int
    position: PositionSpec
    made_of: int
    has_heads: bool = True


@dataclass(frozen=True, kw_only=True)
class IndexPlan(BlockPlan):
    """Scores of all earlier tokens by `heads` small queries and one small key a token.

    narrow: the width of what queries are made of, behind the D channels of x; 0 if they are made of x.
    weighs: whether a token weighs its heads' scores and adds them up.
    """

    builder: ClassVar[str] = "evo.blocks.select.index:Index"
    heads: int
    dim: int
    narrow: int
    weighs: bool


@dataclass(frozen=True, kw_only=True)
class ByIndexPlan(BlockPlan):
    """A choice by the scores of an index: the best `top` blocks of `size` tokens, the last `local` ones among them.

    align: the weight of the loss that teaches the index. to: the signal under which later attentions find the choice.
    """

    builder: ClassVar[str] = "evo.blocks.select.module:ByIndex"
    chooses: ClassVar[bool] = True
    top: int
    size: int
    local: int
    align: float
    to: str | None = None


@dataclass(frozen=True, kw_only=True)
class SharedPlan(BlockPlan):
    """The choice of an earlier attention."""

    builder: ClassVar[str] = "evo.blocks.select.module:Shared"


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


class SelectSpec(Spec):
    """Which of the earlier keys a query meets, by what they hold."""

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


class IndexedSpec(SelectSpec):
    """What selections by a small attention of their own have in common."""

    if TYPE_CHECKING:  # each kind declares the fields itself, so that they stand in its own order
        norm: Spec
        q_norm: Spec | None
        position: Spec | None
        dim: int

    def _index(self, scope: Scope, asker: Asker, heads: int, *, weighs: bool) -> IndexPlan:
        narrow = asker.made_of if asker.made_of != scope.width else 0
        weights: list[Weight] = [linear("q", heads * self.dim, narrow or scope.width)]
        weights.append(linear("k", self.dim, scope.width))
        if weighs:
            weights.append(linear("weigh", heads, scope.width))
        children = [("position", self._position(asker).for_heads(scope, heads, self.dim))]
        assert isinstance(self.norm, NormSpec)
        children.append(("k_norm", self.norm.plan(replace(scope, width=self.dim))))
        if isinstance(self.q_norm, NormSpec):
            children.append(("q_norm", self.q_norm.over_heads(heads, self.dim)))
        pairs = near_pairs(scope.context, scope.context) / scope.context
        return IndexPlan(
            kind="index",
            weights=tuple(weights),
            cost=Cost(
                flops=matmul_flops(tuple(weights)) + 2.0 * heads * self.dim * pairs,
                cache_per_token=self.dim,
                activations=(heads + 1) * self.dim,
            ),
            children=tuple(children),
            has_state=True,
            heads=heads,
            dim=self.dim,
            narrow=narrow,
            weighs=weighs,
        )

    def _position(self, asker: Asker) -> PositionSpec:
        position = self.position or asker.position
        assert isinstance(position, PositionSpec)
        return position

    def _index_faults(self, asker: Asker, heads: int) -> Iterator[Fault]:
        position = self._position(asker)
        where = "position" if self.position else "dim"
        if self.position and position.acts_on in ("scores", "embedding"):
            message = f"an index cannot use position {position.kind}: its queries and keys are turned, or nothing is"
            yield Fault("EVO304", ("position",), message, "write rope or none")
        for problem in position.attention_problems(self.dim):
            yield Fault(problem.code, (where,), problem.message, problem.help)
        assert isinstance(self.norm, NormSpec)
        yield from self.norm.slot_problems(self.dim, ("norm",))
        if isinstance(self.q_norm, NormSpec):
            yield from self.q_norm.head_problems(heads, self.dim, ("q_norm",))


class TokensSelect(IndexedSpec):
    """The best `top` earlier tokens by sum_h w_h relu(q_h k) / sqrt(heads dim), for all heads (DeepSeek-V3.2)."""

    kind: ClassVar[str | None] = "tokens"

    top: Annotated[int, Field(ge=1), Gene(4, 512, "x2")]
    """How many tokens a query meets at most."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING] = 4
    """Heads of the index."""
    dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2), Gene(4, 128, "x2")] = 32
    """Width of its queries and of its one key a token."""
    norm: Annotated[Spec, RoleOf("norm", default="layer"), FIXED] = DEFAULT
    """The norm of its keys."""
    q_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of its queries."""
    position: Annotated[Spec | None, RoleOf("position"), FIXED] = None
    """How its queries and keys are turned; as those of the attention if left out."""
    align: Annotated[float, Field(gt=0, le=1e3), FIXED] = 1.0
    """Weight of the loss that draws its scores to what the attention attends to; nothing else teaches it."""
    to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may read the choice."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        return self._index_faults(asker, self.heads)

    def chooser(self, scope: Scope, asker: Asker) -> ByIndexPlan:
        return ByIndexPlan(
            kind=self.label,
            children=(("index", self._index(scope, asker, self.heads, weighs=True)),),
            outputs=() if self.to is None else (_signal(self.to),),
            losses=("align",),
            top=self.top,
            size=1,
            local=0,
            align=self.align,
            to=None if self.to is None else _signal(self.to),
        )

    def pairs(self, context: int) -> int:
        return near_pairs(self.top, context)


class BlocksSelect(IndexedSpec):
    """The best `top` blocks of `size` tokens by their best token's q k, one choice for each key head (MiniMax-M3)."""

    kind: ClassVar[str | None] = "blocks"

    size: Annotated[int, Field(ge=1), Gene(4, 128, "x2")]
    """Tokens of a block."""
    top: Annotated[int, Field(ge=1), Gene(1, 32, "x2")]
    """How many blocks a query meets at most, the local ones included."""
    local: Annotated[int, Field(ge=1), Gene(1, 4, "+1")] = 1
    """How many blocks are met whatever their scores: the query's own, and those right before."""
    dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2), Gene(4, 128, "x2")] = 32
    """Width of the index's queries and of its one key a token."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of its keys."""
    q_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of its queries."""
    position: Annotated[Spec | None, RoleOf("position"), FIXED] = None
    """How its queries and keys are turned; as those of the attention if left out."""
    align: Annotated[float, Field(gt=0, le=1e3), FIXED] = 1.0
    """Weight of the loss that draws its scores to what the attention attends to; nothing else teaches it."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        if self.local > self.top:
            message = f"{self.local} local blocks are more than the {self.top} that a query meets"
            yield Fault("EVO360", ("local",), message, "raise top")
        yield from self._index_faults(asker, asker.groups)

    def chooser(self, scope: Scope, asker: Asker) -> ByIndexPlan:
        return ByIndexPlan(
            kind=self.label,
            children=(("index", self._index(scope, asker, asker.groups, weighs=False)),),
            losses=("align",),
            top=self.top,
            size=self.size,
            local=self.local,
            align=self.align,
        )

    def pairs(self, context: int) -> int:
        return block_pairs(self.size, self.top, context)


class SharedSelect(SelectSpec):
    """The choice of an earlier attention's selection by tokens (GLM-MoE-DSA)."""

    kind: ClassVar[str | None] = "shared"

    of: Annotated[str, Field(pattern=NAME, max_length=64, examples=["chosen"]), FIXED]
    """The name under which that one publishes it."""

    def chooser(self, scope: Scope, asker: Asker) -> SharedPlan:
        del scope, asker
        return SharedPlan(kind=self.label, inputs=(_signal(self.of),))


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


def _signal(name: str) -> str:
    return f"choice of {name}"


def under(faults: Iterator[Fault], *path: str) -> Iterator[Fault]:
    """The same faults, seen from the spec that holds the selection."""
    return (placed(fault, *path) for fault in faults)
