"""The language and the plans of pooled entries: what stands for whole blocks of earlier tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.select.indexed import IndexPlan, WeighedIndexed
from evo.blocks.select.spec import Asker, SelectSpec, under
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class EntriesPlan(BlockPlan):
    """One vector of `width` channels for each block of `size` tokens, a mean or a sum with weights by channel.

    groups, key_dim: the key heads in the first channels. overlap: whether a vector holds the block before too.
    is_own: whether it is made by maps of the stream; else of vectors that stand behind the stream's channels.
    """

    builder: ClassVar[str] = "evo.blocks.select.pooled.entries:Entries"
    size: int
    width: int
    groups: int
    key_dim: int
    overlap: bool
    is_own: bool


@dataclass(frozen=True, kw_only=True)
class EntryIndexPlan(IndexPlan):
    """Scores of entries by small queries and small entries of blocks of `size` tokens."""

    builder: ClassVar[str] = "evo.blocks.select.pooled.module:EntryIndex"
    size: int


@dataclass(frozen=True, kw_only=True)
class PooledPlan(BlockPlan):
    """Entries of blocks of `size` tokens in one softmax with tokens; `top` of them, by an index, if it is not 0.

    has_values: whether an entry's value is another vector than its key. align: the weight of the index's loss.
    """

    builder: ClassVar[str] = "evo.blocks.select.pooled.module:Pooled"
    size: int
    groups: int
    key_dim: int
    has_values: bool
    is_own: bool
    top: int
    align: float


@dataclass(frozen=True)
class Pooling:
    """How entries of blocks of `size` tokens are made of these."""

    size: int
    by: Literal["softmax", "mean"] = "mean"
    overlap: bool = False


class EntryIndexSpec(WeighedIndexed):
    """The best `top` entries by sum_h w_h relu(q_h k) / sqrt(heads dim), k small entries of the same blocks."""

    called: ClassVar[str | None] = "this index"


class PooledSelect(SelectSpec):
    """Beside the tokens of the stencil, an entry for each whole block before: a sum of its tokens (DeepSeek-V4)."""

    kind: ClassVar[str | None] = "pooled"
    fits_stencils: ClassVar[bool] = True

    size: Annotated[int, Field(ge=1), Gene(4, 128, "x2")]
    """Tokens of a block; a query meets its entry from the block's last token on."""
    by: Literal["softmax", "mean"] = "softmax"
    """What tokens count in an entry: by channel, a softmax of a map of each and a bias of its place; or all alike."""
    overlap: bool = False
    """Whether an entry holds the block before too."""
    of: Literal["own", "keys"] = "own"
    """What is pooled: maps of its own of the tokens, normed and turned as tokens at the first place of their block; or
    the attention's keys and values as they are (Native Sparse Attention, Compressive Transformer)."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of entries as keys, where their maps are their own."""
    index: EntryIndexSpec | None = None
    """What chooses the entries that a query meets; all of them if left out."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset() if self.of == "own" else frozenset({"norm"})

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        if not asker.has_heads:
            message = "entries need keys and values by head, which this attention does not keep"
            yield Fault("EVO360", (), message, "choose tokens or blocks")
            return
        if self.size > scope.context:
            message = f"no block of {self.size} tokens is whole within the context of {scope.context}"
            yield Fault("EVO360", (), message, "make size smaller, or leave the selection out")
        if asker.position.acts_on == "scores":
            message = f"position {asker.position.kind} tells distances of tokens, and an entry has none"
            yield Fault("EVO360", (), message, "write rope or none")
        if self.of == "own":
            assert isinstance(self.norm, NormSpec)
            yield from self.norm.head_problems(asker.groups, asker.key_dim, ("norm",))
        if self.index is not None:
            yield from under(self.index.index_faults(asker, self.index.heads), "index")
            if self.index.top >= scope.context // self.size:
                message = f"there are no more entries within the context of {scope.context}"
                yield Fault("EVO331", ("index", "top"), message, "make it smaller, or leave the index out", "warning")

    def chooser(self, scope: Scope, asker: Asker) -> PooledPlan:
        key_dim, has_values = asker.key_dim, not asker.values_are_keys
        width = asker.groups * (key_dim + (asker.value_dim if has_values else 0))
        assert isinstance(self.norm, NormSpec)
        norm = self.norm.over_heads(asker.groups, key_dim) if self.of == "own" else None
        pooling = Pooling(self.size, self.by, self.overlap)
        children: list[tuple[str, BlockPlan]] = [
            ("entries", entries_plan(pooling, scope, asker, width, asker.groups, norm))
        ]
        if self.index is not None:
            children.append(("index", entry_index(pooling, scope, asker, self.index)))
        pairs = self._pairs(scope.context)
        return PooledPlan(
            kind=self.label,
            cost=Cost(flops=2.0 * asker.heads * (key_dim + asker.value_dim) * pairs),
            children=tuple(children),
            losses=() if self.index is None else ("align",),
            size=self.size,
            groups=asker.groups,
            key_dim=key_dim,
            has_values=has_values,
            is_own=self.of == "own",
            top=0 if self.index is None else self.index.top,
            align=0.0 if self.index is None else self.index.align,
        )

    def _pairs(self, context: int) -> float:
        """How many entries a query meets on average."""
        return entry_pairs(self.size, None if self.index is None else self.index.top, context) / context


def entries_plan(
    pooling: Pooling, scope: Scope, asker: Asker, width: int, groups: int, norm: BlockPlan | None
) -> EntriesPlan:
    """Entries of so many channels and key heads. norm: of those that are made by maps of their own."""
    size, is_own, key_dim = pooling.size, norm is not None, asker.key_dim
    series, reach = (2, 2 * size) if pooling.overlap else (1, size)
    weights: list[Weight] = [linear("maps", series * width, scope.width)] if is_own else []
    if pooling.by == "softmax":
        weights.append(linear("gate", series * width, scope.width))
        weights.append(Weight("places", (size, series * width), ZEROS, ("stack", "channel")))
    children: tuple[tuple[str, BlockPlan], ...] = ()
    if norm is not None:
        children = (("position", asker.position.for_heads(scope, groups, key_dim)), ("norm", norm))
    kept = (series if is_own else 1) * width + (series * width if pooling.by == "softmax" else 0)
    return EntriesPlan(
        kind="entries",
        weights=tuple(weights),
        cost=Cost(
            flops=matmul_flops(tuple(weights)) + 5.0 * series * width,
            cache_per_token=width,
            seen_per_token=1.0 / size,
            state=(reach - 1) * kept,
            activations=kept + series * width,
        ),
        children=children,
        has_state=True,
        size=size,
        width=width,
        groups=groups,
        key_dim=key_dim,
        overlap=pooling.overlap,
        is_own=is_own,
    )


def entry_index(
    pooling: Pooling, scope: Scope, asker: Asker, index: WeighedIndexed, *, weighs: bool = True
) -> EntryIndexPlan:
    """The index of entries that are pooled like this; without weights of heads, these are added as they are."""
    inner = replace(asker, position=index.turns(asker), key_dim=index.dim)
    assert isinstance(index.norm, NormSpec)
    norm = index.norm.plan(replace(scope, width=index.dim))
    pairs = entry_pairs(pooling.size, None, scope.context) / scope.context
    weights, children = index.queries(scope, asker, index.heads, weighs=weighs)
    return EntryIndexPlan(
        kind="index",
        weights=weights,
        cost=Cost(
            flops=matmul_flops(weights) + 2.0 * index.heads * index.dim * pairs,
            activations=index.heads * index.dim,
        ),
        children=(*children, ("entries", entries_plan(pooling, scope, inner, index.dim, 1, norm))),
        heads=index.heads,
        dim=index.dim,
        narrow=asker.made_of,
        weighs=weighs,
        adds=not weighs,
        size=pooling.size,
    )


def entry_pairs(size: int, top: int | None, context: int) -> int:
    """Pairs of a causal context where each query meets the entries of whole blocks so far, at most `top`."""
    blocks = context // size
    met = blocks if top is None else min(blocks, top)
    return met * (context + 1) - size * met * (met + 1) // 2
