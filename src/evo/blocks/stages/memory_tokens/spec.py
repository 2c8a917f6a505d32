"""The language and the plan of a stage with memory tokens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, gains, table
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class MemoryTokensPlan(StagePlan):
    """A stage, its one child, over `every` tokens and `count` learned vectors in turn, or over these and all tokens."""

    builder: ClassVar[str] = "evo.blocks.stages.memory_tokens.module:MemoryTokens"
    every: int | None
    count: int


class MemoryTokensSpec(AroundSpec):
    """A stage that reads, behind each segment of tokens, some learned vectors: places for what it makes of the segment
    (Burtsev et al. 2020), and with a neural memory Titans' memory as context (Behrouz et al. 2025). Without segments
    they stand before the first token (meta tokens, Dong et al. 2024)."""

    kind: ClassVar[str | None] = "memory_tokens"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads the longer sequence, so it has no `from`; its positions count all of it."""
    every: Annotated[int | None, Field(ge=1, le=65536), Gene(8, 128, "x2", optional=True)] = 32
    """Tokens of a segment; null for vectors that stand once, before the first token."""
    count: Annotated[int, Field(ge=1, le=4096), Gene(1, 16, "x2")] = 4
    """Learned vectors behind each segment that further tokens follow, or before the first token."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from self._alone(scope, "EVO358", "memory tokens")
        if self.every is not None and self.every >= scope.context:
            message = f"a context of {scope.context} tokens ends with its first segment of {self.every}"
            yield Fault("EVO358", ("every",), message, "lower every")

    def plan(self, scope: Scope) -> MemoryTokensPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, inner = len(dict(reads)["x"]), self._inner.plan(self._scope(scope))
        return MemoryTokensPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                table("learned", self.count, width, 0.02),
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(activations=2 * width),
            children=((self._child, shared(inner, inner, 1.0 + self.count / (self.every or scope.context))),),
            has_state=True,
            every=self.every,
            count=self.count,
        )

    def _scope(self, scope: Scope) -> Scope:
        times = 1 if self.every is None else (scope.context - 1) // self.every
        return replace(super()._scope(scope), context=scope.context + times * self.count, earlier={})
