"""The language and the plan of cross attention."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.norm.spec import NormSpec
from evo.dsl.genes import FIXED, WIDENING, Gene
from evo.dsl.organism import Name, StageSpec, vectors_of
from evo.dsl.plan import BlockPlan, Cost, Weight, linear, matmul_flops
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class CrossAttentionPlan(BlockPlan):
    """Attention to vectors that the signal `source` has of each token."""

    builder: ClassVar[str] = "evo.blocks.cross_attention.module:CrossAttention"
    source: str
    heads: int
    kv_heads: int


class CrossAttentionSpec(Spec):
    """softmax(q k^T / sqrt(width / heads)) v of a token over the vectors that a stage gives it, k and v maps of their
    norm: how bytes read patches (BLT, Pagnoni et al. 2024, 3.3)."""

    kind: ClassVar[str | None] = "cross_attention"

    source: Annotated[Name, Field(examples=["patches"]), FIXED]
    """The stage above that gives each token the vectors."""
    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Key and value heads, each serving heads / kv_heads queries; as many as heads if left out."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """The norm of the vectors; the organism's if left out."""

    @property
    def copies_norm(self) -> bool:
        return self.norm is None

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({self.source})

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from head_problems(self.heads, self.kv_heads, scope.width)
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(scope.width, ("norm",))
        stages = {name: stage for name, stage in scope.earlier.items() if isinstance(stage, StageSpec)}
        giving = {name: stage.vectors for name, stage in stages.items() if stage.vectors}
        if self.source not in giving:
            message = f"no stage '{self.source}' above gives tokens vectors to read"
            known = f"these do: {', '.join(giving)}" if giving else "a stage of kind dynamic_patches does"
            yield Fault("EVO354", ("source",), message, f"{suggestion(self.source, giving)}{known}")
        elif giving[self.source] == 1:
            message = f"'{self.source}' gives one vector a token, which queries and keys cannot choose among"
            yield Fault("EVO354", ("source",), message, "let it give several", "warning")

    def plan(self, scope: Scope) -> CrossAttentionPlan:
        stage, norm = scope.earlier[self.source], self.norm or scope.norm
        assert isinstance(stage, StageSpec)
        assert isinstance(norm, NormSpec)
        groups, dim = self.kv_heads or self.heads, scope.width // self.heads
        weights = cross_weights(self.heads, groups, scope.width, stage.vectors, scope.residual_gain)
        scores = 4.0 * scope.width * stage.vectors
        kept = 3 * scope.width + stage.vectors * (2 * groups * dim + self.heads)
        return CrossAttentionPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(flops=matmul_flops(weights) + scores, activations=kept),
            children=(("kv_norm", norm.plan(scope)),),
            inputs=(vectors_of(self.source),),
            source=vectors_of(self.source),
            heads=self.heads,
            kv_heads=groups,
        )


def cross_weights(heads: int, groups: int, width: int, vectors: int, gain: float) -> tuple[Weight, ...]:
    """The maps of a token's queries and outputs, and those of the keys and values of each of its vectors."""
    inner, keys = width, groups * (width // heads)
    k, v = (replace(linear(name, keys, width), share=float(vectors)) for name in ("k", "v"))
    return linear("q", inner, width), k, v, linear("o", width, inner, gain, writes_residual=True)


def head_problems(heads: int, kv_heads: int | None, width: int) -> Iterator[Fault]:
    """Heads that do not divide the width, or each other."""
    if width % heads:
        message = f"{heads} heads do not divide the width {width}"
        yield Fault("EVO300", ("heads",), message, "change heads or width")
    if kv_heads is not None and heads % kv_heads:
        divisors = ", ".join(str(n) for n in range(1, heads + 1) if heads % n == 0)
        message = f"{kv_heads} kv_heads do not divide {heads} heads"
        yield Fault("EVO301", ("kv_heads",), message, f"these do: {divisors}")
