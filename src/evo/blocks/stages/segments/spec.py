"""The language and the plan of a stage over segments."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, gains, table
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class SegmentsPlan(StagePlan):
    """A stage, its one child, over segments of `every` tokens with `count` vectors that are handed on; None: gradients
    flow through all segments."""

    builder: ClassVar[str] = "evo.blocks.stages.segments.module:Segments"
    every: int
    count: int
    backprop: int | None


class SegmentsSpec(AroundSpec):
    """A stage over one segment of tokens after the other, each between vectors that the stage made of those of the
    segment before (Recurrent Memory Transformer, Bulatov et al. 2207.06881)."""

    kind: ClassVar[str | None] = "segments"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads a segment as its whole sequence, so it has no `from`; its positions count that."""
    every: Annotated[int, Field(ge=1, le=65536), Gene(8, 128, "x2")] = 32
    """Tokens of a segment."""
    count: Annotated[int, Field(ge=1, le=4096), Gene(1, 16, "x2")] = 4
    """Vectors that a segment hands to the next; those before the first one are learned."""
    backprop: Annotated[int | None, Field(ge=1, le=65536), FIXED] = None
    """Through how many segments at a time gradients flow; all if left out."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from self._alone(scope, "EVO358", "segments")
        if self.every >= scope.context:
            message = f"a context of {scope.context} tokens ends with its first segment of {self.every}"
            yield Fault("EVO358", ("every",), message, "lower every")
        elif self.backprop is not None and self.backprop * self.every >= scope.context:
            message = f"gradients flow through all segments of {scope.context} tokens anyway"
            yield Fault("EVO358", ("backprop",), message, "lower or remove it", "warning")

    def plan(self, scope: Scope) -> SegmentsPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, inner = len(dict(reads)["x"]), self._inner.plan(self._scope(scope))
        met = shared(inner, inner, 1.0 + 2.0 * self.count / self.every)
        return SegmentsPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                table("learned", self.count, width, 0.02),
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(state=self.count * width, activations=2 * width),
            children=((self._child, _seeing(met, inner, (self.every + self.count) / scope.context)),),
            has_state=True,
            every=self.every,
            count=self.count,
            backprop=self.backprop,
        )

    def _scope(self, scope: Scope) -> Scope:
        return replace(super()._scope(scope), context=self.every + 2 * self.count)


def _seeing(plan: BlockPlan, alone: BlockPlan, share: float) -> BlockPlan:
    """A block whose caches grow to what one segment fills over the whole context."""
    pairs = zip(plan.children, alone.children, strict=True)
    return replace(
        plan,
        cost=replace(plan.cost, seen_per_token=alone.cost.seen_per_token * share),
        children=tuple((name, _seeing(child, own, share)) for (name, child), (_, own) in pairs),
    )
