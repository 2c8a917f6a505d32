"""The language and the plans of selections by an index: a small attention without values that scores earlier tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec
from evo.blocks.select.spec import Asker, SelectSpec, block_pairs, near_pairs
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.organism import NAME
from evo.dsl.plan import BlockPlan, Cost, Weight, linear, matmul_flops
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class IndexPlan(BlockPlan):
    """Scores of all earlier tokens by `heads` small queries and one small key a token.

    narrow: the width of what queries are made of, behind the D channels of x; 0 if they are made of x.
    weighs: whether a token weighs its heads' scores and adds them up. adds: whether they are added as they are.
    """

    builder: ClassVar[str] = "evo.blocks.select.index:Index"
    heads: int
    dim: int
    narrow: int
    weighs: bool
    adds: bool = False


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


class Indexed(Spec):
    """What an index is made of, whatever it scores."""

    if TYPE_CHECKING:  # each kind declares the fields itself, so that they stand in its own order
        norm: Spec
        q_norm: Spec | None
        position: Spec | None
        dim: int

    def queries(
        self, scope: Scope, asker: Asker, heads: int, *, weighs: bool
    ) -> tuple[tuple[Weight, ...], tuple[tuple[str, BlockPlan], ...]]:
        """The weights and the blocks that its queries pass."""
        weights = [linear("q", heads * self.dim, asker.made_of or scope.width)]
        if weighs:
            weights.append(linear("weigh", heads, scope.width))
        children = [("position", self.turns(asker).for_heads(scope, heads, self.dim))]
        if isinstance(self.q_norm, NormSpec):
            children.append(("q_norm", self.q_norm.over_heads(heads, self.dim)))
        return tuple(weights), tuple(children)

    def turns(self, asker: Asker) -> PositionSpec:
        """How queries and keys are turned."""
        position = self.position or asker.position
        assert isinstance(position, PositionSpec)
        return position

    def index_faults(self, asker: Asker, heads: int) -> Iterator[Fault]:
        """What keeps it from scoring; paths are relative to it."""
        position = self.turns(asker)
        where = "position" if self.position else "dim"
        if self.position and (position.acts_on in ("scores", "embedding") or position.widens > 1):
            message = f"an index cannot use position {position.kind}: its queries and keys are turned, or nothing is"
            yield Fault("EVO304", ("position",), message, "write rope or none")
        for problem in position.attention_problems(self.dim):
            yield Fault(problem.code, (where,), problem.message, problem.help)
        assert isinstance(self.norm, NormSpec)
        yield from self.norm.slot_problems(self.dim, ("norm",))
        if isinstance(self.q_norm, NormSpec):
            yield from self.q_norm.head_problems(heads, self.dim, ("q_norm",))


class WeighedIndexed(Indexed):
    """An index whose heads each token weighs and adds up."""

    top: Annotated[int, Field(ge=1), Gene(1, 512, "x2")]
    """How many a query meets at most."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 16, "x2"), WIDENING] = 4
    """Heads of the index."""
    dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2), Gene(4, 128, "x2")] = 32
    """Width of its queries and keys, of which all heads share one."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of its keys."""
    q_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of its queries."""
    position: Annotated[Spec | None, RoleOf("position"), FIXED] = None
    """How its queries and keys are turned; as those of the attention if left out."""
    align: Annotated[float, Field(gt=0, le=1e3), FIXED] = 1.0
    """Weight of the loss that draws its scores to what the attention attends to; nothing else teaches it."""


class IndexedSelect(Indexed, SelectSpec):
    """What selections by an index of tokens have in common."""

    def _index(self, scope: Scope, asker: Asker, heads: int, *, weighs: bool) -> IndexPlan:
        own, children = self.queries(scope, asker, heads, weighs=weighs)
        weights = (*own, linear("k", self.dim, scope.width))
        assert isinstance(self.norm, NormSpec)
        pairs = near_pairs(scope.context, scope.context) / scope.context
        return IndexPlan(
            kind="index",
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + 2.0 * heads * self.dim * pairs,
                cache_per_token=self.dim,
                activations=(heads + 1) * self.dim,
            ),
            children=(*children, ("k_norm", self.norm.plan(replace(scope, width=self.dim)))),
            has_state=True,
            heads=heads,
            dim=self.dim,
            narrow=asker.made_of,
            weighs=weighs,
        )


class TokensSelect(IndexedSelect, WeighedIndexed):
    """The best `top` earlier tokens by sum_h w_h relu(q_h k) / sqrt(heads dim), for all heads (DeepSeek-V3.2)."""

    kind: ClassVar[str | None] = "tokens"

    top: Annotated[int, Field(ge=1), Gene(4, 512, "x2")]
    """How many tokens a query meets at most."""
    norm: Annotated[Spec, RoleOf("norm", default="layer"), FIXED] = DEFAULT
    """The norm of its keys."""
    to: Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED] = None
    """A name under which later attentions may read the choice."""

    def faults(self, scope: Scope, asker: Asker) -> Iterator[Fault]:
        return self.index_faults(asker, self.heads)

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


class BlocksSelect(IndexedSelect):
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
        yield from self.index_faults(asker, asker.groups)

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


def _signal(name: str) -> str:
    return f"choice of {name}"
