"""The language and the plan of attention beside a compressive memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.attention.stencils import BlockStencil
from evo.blocks.position.spec import NO_POSITION, PositionSpec
from evo.blocks.position.turning import turning_problems
from evo.dsl.genes import WIDENING, Gene
from evo.dsl.plan import ZEROS, BlockPlan, Cost, Weight, linear, matmul_flops, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec, dividing


@dataclass(frozen=True, kw_only=True)
class CompressivePlan(BlockPlan):
    """Attention of `heads` over `kv_heads` within segments of `segment` tokens, and a memory of each key head."""

    builder: ClassVar[str] = "evo.blocks.compressive.module:Compressive"
    heads: int
    kv_heads: int
    head_dim: int
    segment: int
    update: str


class CompressiveSpec(Spec):
    """g linear attention to all earlier segments + (1 - g) softmax attention within the own one, g learned by head and
    queries, keys and values the same (Infini-attention, Munkhdalai et al. 2404.07143)."""

    kind: ClassVar[str | None] = "compressive"
    widths_apart: ClassVar[bool] = True

    heads: Annotated[int, Field(ge=1, le=1024), Gene(1, 32, "x2"), WIDENING]
    """Query heads."""
    kv_heads: Annotated[int | None, Field(ge=1), Gene(1, 32, "x2", optional=True), WIDENING] = None
    """Key and value heads, each with a memory, serving heads / kv_heads queries; as many as heads if left out."""
    head_dim: Annotated[int | None, Field(ge=1, le=4096), Gene(8, 128, "x2", optional=True)] = None
    """Width of a head; width / heads if left out."""
    segment: Annotated[int, Field(ge=1, le=65536), Gene(8, 128, "x2")] = 64
    """Tokens of a segment, which enters the memory as a whole when it ends."""
    update: Literal["outer", "delta"] = "outer"
    """outer adds (elu(k) + 1) v; delta adds what v has beside what the memory of earlier segments gives for k."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Turns queries and keys within segments; nothing if left out (the stage's encoding is not inherited). The memory
    is written and read as they are before."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if self.head_dim is None and scope.width % self.heads:
            message = f"{self.heads} heads do not divide the width {scope.width}"
            yield Fault("EVO300", ("heads",), message, "change heads or width, or set head_dim")
            return
        if self.heads % (self.kv_heads or self.heads):
            message = f"{self.kv_heads} kv_heads do not divide {self.heads} heads"
            yield Fault("EVO301", ("kv_heads",), message, dividing(self.heads))
        if self.segment >= scope.context:
            message = f"a context of {scope.context} tokens ends with its first segment of {self.segment}"
            yield Fault("EVO358", ("segment",), message, "lower segment")
        yield from turning_problems(self.position, self._dim(scope), "attention beside a memory")

    def _dim(self, scope: Scope) -> int:
        return self.head_dim or scope.width // self.heads

    def plan(self, scope: Scope) -> CompressivePlan:
        dim, groups, stencil = self._dim(scope), self.kv_heads or self.heads, BlockStencil(size=self.segment)
        weights = self._weights(scope, groups, dim)
        pairs = stencil.visible(scope.context, True) / scope.context
        touches = self.heads + groups * (2 if self.update == "delta" else 1)
        position: BlockPlan = NO_POSITION
        if isinstance(self.position, PositionSpec):
            position = self.position.for_heads(scope, self.heads, dim)
        return CompressivePlan(
            kind=self.label,
            weights=weights,
            cost=Cost(
                flops=matmul_flops(weights) + 4.0 * self.heads * dim * pairs + 2.0 * touches * dim * (dim + 1),
                cache_per_token=2 * groups * dim,
                cache_limit=stencil.kept(),
                state=groups * dim * (dim + 1),
                activations=scope.width + (3 * self.heads + 3 * groups) * dim,
            ),
            children=(("position", position),),
            has_state=True,
            heads=self.heads,
            kv_heads=groups,
            head_dim=dim,
            segment=self.segment,
            update=self.update,
        )

    def _weights(self, scope: Scope, groups: int, dim: int) -> tuple[Weight, ...]:
        return (
            linear("q", self.heads * dim, scope.width),
            linear("k", groups * dim, scope.width),
            linear("v", groups * dim, scope.width),
            linear("o", scope.given, self.heads * dim, scope.residual_gain, writes_residual=True),
            vector("blend", self.heads, ZEROS),
        )
