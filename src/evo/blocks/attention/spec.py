"""The language and the plan of attention."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.attention.stencils import FullStencil, KernelStencil, StencilSpec
from evo.blocks.position.spec import PositionSpec, acts_on_heads
from evo.dsl.genes import DRAWN, FIXED, Gene
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import DEFAULT, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class AttentionPlan(BlockPlan):
    """Attention of `heads` query heads over `kv_heads` key and value heads of width `head_dim`."""

    builder: ClassVar[str] = "evo.blocks.attention.module:Attention"
    heads: int
    kv_heads: int
    head_dim: int
    qk_norm: str
    soft_cap: float | None
    stencil: KernelStencil
    sink_logit: bool
    bias: bool
    causal: bool


class AttentionSpec(Spec):
    """softmax(q k^T / sqrt(head_dim)) v over grouped heads (Vaswani et al. 2017; Ainslie et al. 2023)."""

    kind: ClassVar[str | None] = "attention"

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2")]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True)] = None
    """Key and value heads, each serving heads / kv_heads queries; as many as heads if left out."""
    head_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 256, "x2", optional=True)] = None
    """Width of a head; width / heads if left out."""
    qk_norm: Literal["none", "rms"] = "none"
    """RMS norm of q and k per head, before the rotation (Qwen3)."""
    soft_cap: Annotated[float | None, Field(gt=0), Gene(10, 100, "scale", optional=True)] = None
    """Bounds scores to ±cap by `cap * tanh(score / cap)` (Gemma 2)."""
    stencil: Annotated[StencilSpec, RoleOf("stencil", default="full"), DRAWN] = DEFAULT
    """Which positions a query may see."""
    sink_logit: bool = False
    """A learned logit per head joins the softmax and takes no value (gpt-oss)."""
    bias: bool = False
    """Biases on the q, k, v and output projections."""
    causal: Annotated[bool, FIXED] = True
    """Whether a query sees only its past. False leaks the future in next-token tasks, which refuse it."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Overrides the position encoding of the stage."""

    @property
    def reads_position(self) -> bool:
        return self.position is None

    @property
    def is_causal(self) -> bool:
        return self.causal

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.head_dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set head_dim")
            return
        kv_heads = self.kv_heads or self.heads
        if self.heads % kv_heads:
            yield Fault("EVO301", ("kv_heads",), f"{kv_heads} kv_heads do not divide {self.heads} heads")
        full = FullStencil().visible(scope.context, self.causal)
        if isinstance(self.position, PositionSpec) and self.position.acts_on == "embedding":
            message = "learned positions are added to the embedding: they belong to the organism"
            yield Fault("EVO304", ("position",), message, "write them under organism.position")
        if self.position is not None and not acts_on_heads(self.position) and not acts_on_heads(scope.position):
            message = "no position encoding acts on these heads anyway"
            yield Fault("EVO330", ("position",), message, "remove it", "warning")
        if self.stencil.masks and self.stencil.visible(scope.context, self.causal) >= full:
            message = f"this stencil hides nothing within the context of {scope.context}"
            yield Fault("EVO331", ("stencil",), message, "write {kind: full}, or make it smaller", "warning")
        for problem in self._position(scope).attention_problems(self._head_dim(scope)):
            where = ("position", *problem.path) if self.position else ("heads",)
            yield Fault(problem.code, where, problem.message, problem.help)

    def _position(self, scope: Scope) -> PositionSpec:
        position = self.position or scope.position
        assert isinstance(position, PositionSpec)
        return position

    def _head_dim(self, scope: Scope) -> int:
        return self.head_dim or scope.width // self.heads

    def plan(self, scope: Scope) -> AttentionPlan:
        dim, groups = self._head_dim(scope), self.kv_heads or self.heads
        position = self._position(scope).for_heads(scope, self.heads, dim)
        weights = self._weights(scope, dim, groups)
        pairs = self.stencil.visible(scope.context, self.causal) / scope.context
        cost = Cost(
            flops=matmul_flops(weights) + 4.0 * self.heads * dim * pairs,
            cache_per_token=2 * groups * dim,
            cache_limit=self.stencil.kept(),
            activations=scope.width + 2 * self.heads * dim + 2 * groups * dim + self.heads,
        )
        return AttentionPlan(
            kind=self.label,
            weights=weights,
            cost=cost,
            children=(("position", position),),
            has_state=True,
            heads=self.heads,
            kv_heads=groups,
            head_dim=dim,
            qk_norm=self.qk_norm,
            soft_cap=self.soft_cap,
            stencil=self.stencil.kernel(),
            sink_logit=self.sink_logit,
            bias=self.bias,
            causal=self.causal,
        )

    def _weights(self, scope: Scope, dim: int, groups: int) -> tuple[Weight, ...]:
        width, inner = scope.width, self.heads * dim
        weights = [
            linear("q", inner, width),
            linear("k", groups * dim, width),
            linear("v", groups * dim, width),
            linear("o", width, inner, scope.residual_gain, writes_residual=True),
        ]
        if self.bias:
            sizes = (("q", inner), ("k", groups * dim), ("v", groups * dim), ("o", width))
            weights += [vector(f"{name}_bias", size, ZEROS) for name, size in sizes]
        if self.qk_norm == "rms":
            weights += [vector("q_norm", dim, ONES), vector("k_norm", dim, ONES)]
        if self.sink_logit:
            weights.append(vector("sink_logit", self.heads, ZEROS))
        return tuple(weights)
