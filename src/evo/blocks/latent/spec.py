"""The language and the plan of latent attention."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.attention.faults import whole_groups
from evo.blocks.attention.stencils import FullStencil, KernelStencil, StencilSpec
from evo.blocks.norm.spec import NormSpec
from evo.blocks.position.spec import PositionSpec, acts_on_heads
from evo.blocks.select.spec import Asker, SelectSpec, hides_nothing, under
from evo.dsl.genes import DRAWN, FIXED, WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec, dividing


@dataclass(frozen=True, kw_only=True)
class LatentPlan(BlockPlan):
    """Attention of `heads` over keys and values made of `kv_rank` channels a token.

    Keys have `nope_dim` channels of their own and `rope_dim` that all heads share.
    """

    builder: ClassVar[str] = "evo.blocks.latent.module:Latent"
    heads: int
    kv_heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    scale: float
    stencil: KernelStencil
    bias: bool
    sink_logit: bool
    gate: str
    q_from_both: bool
    gate_from_q: bool


class LatentSpec(Spec):
    """Attention whose keys and values are maps of one narrow vector a token (MLA, DeepSeek-V2 2405.04434)."""

    kind: ClassVar[str | None] = "latent"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Heads of queries, and of keys and values but for `kv_heads`."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Key and value heads, each serving heads / kv_heads queries; as many as heads if left out."""
    kv_rank: Annotated[int, Field(ge=1, le=65536), Gene(8, 512, "x2"), WIDENING] = 64
    """Width of what keys and values are made of; a cache keeps it."""
    q_rank: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 1024, "x2", optional=True), WIDENING] = None
    """Width that queries pass; they are made of x itself if left out."""
    nope_dim: Annotated[int, Field(ge=1, le=4096), Gene(8, 128, "x2")] = 32
    """Channels of a head's query and key that no position changes."""
    rope_dim: Annotated[int, Field(ge=2, le=4096, multiple_of=2), Gene(8, 64, "x2")] = 16
    """Channels of a head's query that positions change, and of the one key that all heads share."""
    value_dim: Annotated[int, Field(ge=1, le=4096), Gene(8, 128, "x2")] = 32
    """Width of a head's values."""
    norm: Annotated[Spec, RoleOf("norm", default="rms"), FIXED] = DEFAULT
    """The norm of the narrow vectors."""
    rope_norm: Annotated[Spec | None, RoleOf("norm"), FIXED] = None
    """A norm of the shared key before it turns (Dots 3)."""
    q_from: Annotated[Literal["normed", "both"], FIXED] = "normed"
    """What queries are made of where they pass a narrow vector: its norm, or that and the vector itself (A.X K2)."""
    stencil: Annotated[StencilSpec, RoleOf("stencil", default="full"), DRAWN] = DEFAULT
    """Which positions a query may see."""
    select: Annotated[Spec | None, RoleOf("select")] = None
    """Which of the earlier keys a query meets, chosen by what they hold (DeepSeek-V3.2); all if left out."""
    scale: Annotated[float | None, Field(gt=0, le=1e6), FIXED] = None
    """What scores are multiplied by; (nope_dim + rope_dim) ** -0.5 if left out."""
    sink_logit: bool = False
    """A learned logit a head that shares the softmax with the keys (HY-V4)."""
    bias: bool = False
    """Biases of the maps to the narrow vectors and of the output."""
    subtract: bool = False
    """Whether the last head of a group is taken from the others, from each times the sigmoid of a map of x (GDLA,
    grouped differential latent attention, Motif 3)."""
    subtract_from: Annotated[int, Field(ge=1, le=64), Gene(1, 4, "+1")] = 1
    """How many heads before it each such head is taken from."""
    gate: Annotated[Literal["none", "head", "channel"], FIXED] = "none"
    """Multiplies what heads see by the sigmoid of a map of x, one value a head or a channel (Ling 3.0)."""
    gate_from: Annotated[Literal["x", "q"], FIXED] = "x"
    """What the gate is a map of: x, or what queries are made of (A.X K2)."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Overrides the position encoding of the stage."""

    @property
    def reads_position(self) -> bool:
        return self.position is None

    @property
    def unread(self) -> frozenset[str]:
        is_whole = self.q_rank is None
        found = [("q_from", is_whole), ("gate_from", is_whole or self.gate == "none")]
        found.append(("subtract_from", not self.subtract))
        return frozenset(name for name, is_unread in found if is_unread)

    @property
    def _groups(self) -> int:
        return self.kv_heads or self.heads

    @property
    def _speaking(self) -> int:
        """Heads that are left once some are taken from others."""
        return self.heads * self.subtract_from // (self.subtract_from + 1) if self.subtract else self.heads

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.heads % self._groups:
            message = f"{self._groups} kv_heads do not divide {self.heads} heads"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads))
        if self.subtract:
            yield from whole_groups(self.heads, self.subtract_from)
        if isinstance(self.position, PositionSpec) and self.position.acts_on == "embedding":
            message = "learned positions are added to the embedding: they belong to the organism"
            yield Fault("EVO304", ("position",), message, "write them under organism.position")
        if self.position is not None and not acts_on_heads(self.position) and not acts_on_heads(scope.position):
            message = "no position encoding acts on these heads anyway"
            yield Fault("EVO330", ("position",), message, "remove it", "warning")
        if self.stencil.masks and self.stencil.visible(scope.context, True) >= FullStencil().visible(
            scope.context, True
        ):
            message = f"this stencil hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("stencil",), message, "write {kind: full}, or make it smaller", "warning")
        if self._position(scope).adds_bias or self._position(scope).widens > 1:
            message = f"latent attention cannot use position {self._position(scope).kind}"
            yield Fault("EVO361", ("position",), message, "write rope, alibi or none")
        for problem in self._position(scope).attention_problems(self.rope_dim):
            where = ("position", *problem.path) if self.position else ("rope_dim",)
            yield Fault(problem.code, where, problem.message, problem.help)
        assert isinstance(self.norm, NormSpec)
        for rank in filter(None, (self.kv_rank, self.q_rank)):
            yield from self.norm.slot_problems(rank, ("norm",))
        if isinstance(self.rope_norm, NormSpec):
            yield from self.rope_norm.slot_problems(self.rope_dim, ("rope_norm",))
        if isinstance(self.select, SelectSpec):
            yield from self._select_problems(self.select, scope)

    def _select_problems(self, select: SelectSpec, scope: Scope) -> Iterator[Fault]:
        if self.stencil.masks or not self.stencil.is_causal:
            message = "a selection chooses among all earlier tokens"
            yield Fault("EVO360", ("select",), message, "leave out the stencil, or the selection")
        elif hides_nothing(select.pairs(scope.context), scope.context):
            message = f"this selection hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("select",), message, "make it smaller, or leave it out", "warning")
        yield from under(select.faults(scope, self._asker(scope)), "select")

    def _asker(self, scope: Scope) -> Asker:
        """What a selection must know of this attention."""
        key_dim, made_of = self.nope_dim + self.rope_dim, self.q_rank or 0
        return Asker(self.heads, 1, key_dim, self.value_dim, self._position(scope), made_of, has_heads=False)

    def _pairs(self, scope: Scope) -> float:
        """How many keys a query meets on average."""
        chosen = self.select.pairs(scope.context) if isinstance(self.select, SelectSpec) else None
        shown = self.stencil.visible(scope.context, True)
        return min(shown, shown if chosen is None else chosen) / scope.context

    def _position(self, scope: Scope) -> PositionSpec:
        position = self.position or scope.position
        assert isinstance(position, PositionSpec)
        return position

    def plan(self, scope: Scope) -> LatentPlan:
        weights, key_dim = self._weights(scope), self.nope_dim + self.rope_dim
        pairs = self._pairs(scope)
        made = self.heads * key_dim + self._groups * (self.nope_dim + self.value_dim)
        return LatentPlan(
            kind=self.label,
            weights=weights,
            absorbed=("k", "v"),
            cost=Cost(
                flops=matmul_flops(weights) + 2.0 * self.heads * (key_dim + self.value_dim) * pairs,
                cache_per_token=self.kv_rank + self.rope_dim,
                cache_vectors=(self.kv_rank + self.rope_dim,),
                cache_limit=self.stencil.kept(),
                activations=scope.width + made + self.kv_rank + (self.q_rank or 0),
            ),
            children=self._children(scope),
            has_state=True,
            heads=self.heads,
            kv_heads=self._groups,
            q_rank=self.q_rank,
            kv_rank=self.kv_rank,
            nope_dim=self.nope_dim,
            rope_dim=self.rope_dim,
            value_dim=self.value_dim,
            scale=key_dim**-0.5 if self.scale is None else self.scale,
            stencil=self.stencil.kernel(),
            bias=self.bias,
            sink_logit=self.sink_logit,
            gate=self.gate,
            q_from_both=self.q_rank is not None and self.q_from == "both",
            gate_from_q=self.gate != "none" and self.gate_from == "q",
        )

    def _made_of(self, width: int) -> int:
        """How wide the vectors are that queries are maps of."""
        if self.q_rank is None:
            return width
        return 2 * self.q_rank if self.q_from == "both" else self.q_rank

    def _children(self, scope: Scope) -> tuple[tuple[str, BlockPlan], ...]:
        assert isinstance(self.norm, NormSpec)
        found = [("position", self._position(scope).for_heads(scope, self.heads, self.rope_dim))]
        found.append(("kv_norm", self.norm.plan(replace(scope, width=self.kv_rank))))
        if self.q_rank is not None:
            found.append(("q_norm", self.norm.plan(replace(scope, width=self.q_rank))))
        if isinstance(self.rope_norm, NormSpec):
            found.append(("rope_norm", self.rope_norm.plan(replace(scope, width=self.rope_dim))))
        if isinstance(self.select, SelectSpec):
            found.append(("select", self.select.chooser(scope, self._asker(scope))))
        return tuple(found)

    def _weights(self, scope: Scope) -> tuple[Weight, ...]:
        width, queries = scope.width, self.heads * (self.nope_dim + self.rope_dim)
        weights = [] if self.q_rank is None else [linear("q_down", self.q_rank, width)]
        weights += [
            linear("q", queries, self._made_of(width)),
            linear("kv_down", self.kv_rank + self.rope_dim, width),
            linear("k", self._groups * self.nope_dim, self.kv_rank),
            linear("v", self._groups * self.value_dim, self.kv_rank),
            linear("o", scope.given, self._speaking * self.value_dim, scope.residual_gain, writes_residual=True),
        ]
        if self.gate != "none":
            made_of = self._made_of(width) if self.gate_from == "q" else width
            weights.append(linear("gate", self._speaking * (1 if self.gate == "head" else self.value_dim), made_of))
        weights += [linear("less", self._speaking, width)] if self.subtract else []
        if self.sink_logit:
            weights.append(vector("sink_logit", self.heads, ZEROS))
        if self.bias:
            sizes = (
                ("q_down_bias", self.q_rank),
                ("kv_down_bias", self.kv_rank + self.rope_dim),
                ("o_bias", scope.given),
            )
            weights += [vector(name, size, ZEROS) for name, size in sizes if size is not None]
        return tuple(weights)
