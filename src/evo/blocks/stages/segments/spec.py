"""The language and the plan of a stage over segments."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evo.blocks.route.spec import shared
from evo.blocks.stages.around import AroundSpec
from evo.dsl.genes import FIXED, Gene
from evo.dsl.layers import StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import ONES, ZEROS, BlockPlan, Cost, Weight, gains, linear, matmul_flops, table, vector
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class SegmentsPlan(StagePlan):
    """A stage, its one child, over segments of `every` tokens with `count` vectors that are handed on, or with 0 its
    states; backprop None: gradients flow through all segments of vectors."""

    builder: ClassVar[str] = "evo.blocks.stages.segments.module:Segments"
    every: int
    count: int
    backprop: int | None
    gate: str = "none"


class SegmentsSpec(AroundSpec):
    """A stage over one segment of tokens after the other, each between vectors that the stage made of those of the
    segment before (Recurrent Memory Transformer, Bulatov et al. 2207.06881), or each from the states that its blocks
    kept of all before, as while decoding, which send no gradient back (Transformer-XL, Dai et al. 1901.02860)."""

    kind: ClassVar[str | None] = "segments"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage, without `from`. Between vectors a segment is its whole sequence, and its positions count that."""
    every: Annotated[int, Field(ge=1, le=65536), Gene(8, 128, "x2")] = 32
    """Tokens of a segment."""
    hand: Literal["vectors", "states"] = "vectors"
    """What a segment hands to the next: vectors; or states, keys and values of attention, which teach the maps that
    made them and nothing before these, and all that other blocks keep, which teaches nothing."""
    count: Annotated[int, Field(ge=1, le=4096), Gene(1, 16, "x2")] = 4
    """Vectors that a segment hands to the next; those before the first one are learned."""
    gate: Literal["none", "fixed", "lstm"] = "none"
    """What vectors m become, of which the stage made y (Block-Recurrent Transformer, Hutchins et al. 2203.07852). none:
    y. fixed: g m + (1 - g) (W y + b), g the sigmoid of a learned number for each channel. lstm: f m + i tanh(W y + b),
    f and i sigmoids of maps of y."""
    backprop: Annotated[int | None, Field(ge=1, le=65536), FIXED] = None
    """Through how many segments at a time gradients flow; all if left out."""

    @property
    def unread(self) -> frozenset[str]:
        return frozenset({"count", "backprop", "gate"}) if self.hand == "states" else frozenset()

    def problems(self, scope: Scope) -> Iterator[Fault]:
        yield from self._alone(scope, "EVO358", "segments")
        if self.every >= scope.context:
            message = f"a context of {scope.context} tokens ends with its first segment of {self.every}"
            yield Fault("EVO358", ("every",), message, "lower every")
        elif self.hand == "vectors" and self.backprop is not None and self.backprop * self.every >= scope.context:
            message = f"gradients flow through all segments of {scope.context} tokens anyway"
            yield Fault("EVO358", ("backprop",), message, "lower or remove it", "warning")

    def _inner_faults(self, scope: Scope, code: str, units: str) -> Iterator[Fault]:
        yield from super()._inner_faults(scope, code, units)
        if self.hand == "vectors":
            return
        for block in self._inner.plan(self._scope(scope)).blocks():
            if block.gathers:
                message = f"'{block.kind}' goes on from states row by row, over as many tokens as each row has there"
                yield Fault(code, ("hand",), message, "write hand: vectors, or take it out")
                return

    def plan(self, scope: Scope) -> SegmentsPlan:
        reads, width = self.reads(scope.before), scope.width
        sources, inner = len(dict(reads)["x"]), self._inner.plan(self._scope(scope))
        vectors, gates = self._vectors, self._gates(width)
        met = shared(inner, inner, 1.0 + 2.0 * vectors / self.every)
        if vectors:
            met = _seeing(met, inner, (self.every + vectors) / scope.context)
        return SegmentsPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            weights=(
                *((table("learned", vectors, width, 0.02),) if vectors else ()),
                *gates,
                *((gains(MERGE, sources, width),) if sources > 1 else ()),
            ),
            cost=Cost(flops=matmul_flops(gates) * vectors / self.every, state=vectors * width, activations=2 * width),
            children=((self._child, met),),
            has_state=True,
            late=tuple(weight.name for weight in gates if weight.is_linear),
            every=self.every,
            count=vectors,
            backprop=self.backprop if vectors else None,
            gate=self.gate if vectors else "none",
        )

    def _gates(self, width: int) -> tuple[Weight, ...]:
        """The weights of the gates between what vectors were and what they become."""
        if not self._vectors or self.gate == "none":
            return ()
        found: list[Weight] = []
        for name in ("new",) if self.gate == "fixed" else ("new", "input_gate", "forget_gate"):
            found += [linear(name, width, width), vector(f"{name}_bias", width, ZEROS)]
        keep = (vector("keep", width, ONES),) if self.gate == "fixed" else ()
        return (*found, *keep)

    @property
    def _vectors(self) -> int:
        return self.count if self.hand == "vectors" else 0

    def _scope(self, scope: Scope) -> Scope:
        found = super()._scope(scope)
        return replace(found, context=self.every + 2 * self.count) if self._vectors else found


def _seeing(plan: BlockPlan, alone: BlockPlan, share: float) -> BlockPlan:
    """A block whose caches grow to what one segment fills over the whole context."""
    pairs = zip(plan.children, alone.children, strict=True)
    seen = plan.running(alone, lambda met, own: _seeing(met, own, share))
    return replace(
        seen,
        cost=replace(plan.cost, seen_per_token=alone.cost.seen_per_token * share),
        children=tuple((name, _seeing(child, own, share)) for (name, child), (_, own) in pairs),
    )
