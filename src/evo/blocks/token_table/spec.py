"""The language and the plan of a layer's own table of tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops, table
from evo.dsl.spec import INPUT, TOKENS, Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class TokenTablePlan(BlockPlan):
    """Vectors of `channels` by token, times `scale`, through which a gate is read."""

    builder: ClassVar[str] = "evo.blocks.token_table.module:TokenTable"
    channels: int
    act: str
    scale: float


class TokenTableSpec(Spec):
    """down(act(gate(x)) * e), e a row of this layer's own table, the token's (per-layer embeddings, Gemma 3n).

    With `embedded`, e = (row + norm(project(x_0))) / sqrt(2), x_0 the embedding.
    """

    kind: ClassVar[str | None] = "token_table"

    channels: Annotated[int, Field(ge=1, le=65536), Gene(8, 256, "scale", multiple=8)] = 32
    """The width of a row."""
    act: Word = "gelu_tanh"
    """What the gate passes."""
    scale: Annotated[float, Field(gt=0, le=1e6), FIXED] = 1.0
    """What rows are multiplied by (Gemma: the root of their width)."""
    embedded: Annotated[Spec | None, RoleOf("norm")] = None
    """The norm of a projection of the embedding that is added to the row; only the row if left out."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.embedded, NormSpec):
            yield from self.embedded.slot_problems(self.channels, ("embedded",))

    def plan(self, scope: Scope) -> TokenTablePlan:
        width, channels = scope.width, self.channels
        rows = table("table", scope.vocab, channels, 1.0 / self.scale)
        maps = (
            linear("gate", channels, width),
            *((linear("project", channels, width),) if self.embedded is not None else ()),
            linear("down", width, channels, scope.residual_gain, writes_residual=True),
        )
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.embedded, NormSpec):
            children = (("norm", self.embedded.plan(replace(scope, width=channels))),)
        return TokenTablePlan(
            kind=self.label,
            weights=(rows, *maps),
            cost=Cost(flops=matmul_flops(maps), activations=width + 4 * channels),
            children=children,
            inputs=(TOKENS, INPUT) if children else (TOKENS,),
            channels=channels,
            act=self.act,
            scale=self.scale,
        )
