"""The language and the plan of gates on what an earlier mixer read."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.blocks.norm.spec import NormSpec
from evo.dsl.acts import Word
from evo.dsl.genes import FIXED, WIDENING
from evo.dsl.organism import NAME
from evo.dsl.plan import BlockPlan, Cost, linear, matmul_flops
from evo.dsl.spec import Fault, RoleOf, Scope, Spec

MemoryName = Annotated[str | None, Field(pattern=NAME, max_length=64), FIXED]
"""A name under which a mixer's reading of its state may be read by later blocks."""


def memory_signals(name: str | None, channels: int) -> tuple[str, ...]:
    """What a reading of a name is called in a pass: with its width, so that only equal ones meet."""
    return () if name is None else (f"reading of {name} ({channels} channels)",)


@dataclass(frozen=True, kw_only=True)
class GatedMemoryPlan(BlockPlan):
    """Gates on the `inner` channels of a signal."""

    builder: ClassVar[str] = "evo.blocks.gated_memory.module:GatedMemory"
    inner: int
    act: str


class GatedMemorySpec(Spec):
    """o(norm(m * act(gate(x)))), m what an earlier mixer read from its state for the same token: a gated memory unit,
    which has no state of its own (SambaY, Ren et al. 2507.06607)."""

    kind: ClassVar[str | None] = "gated_memory"

    of: Annotated[str, Field(pattern=NAME, max_length=64, examples=["scan"]), FIXED]
    """The name under which a selective scan or a recurrence above publishes what it read (`reading_to`)."""
    inner: Annotated[int | None, Field(ge=1, le=262144), FIXED, WIDENING] = None
    """How many channels that has; twice the width if left out, as a selective scan's."""
    act: Word = "silu"
    """The activation of the gate."""
    norm: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm of what is gated."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        if isinstance(self.norm, NormSpec):
            yield from self.norm.slot_problems(self._inner(scope), ("norm",))

    def plan(self, scope: Scope) -> GatedMemoryPlan:
        inner = self._inner(scope)
        weights = (
            linear("gate", inner, scope.width),
            linear("o", scope.width, inner, scope.residual_gain, writes_residual=True),
        )
        children: tuple[tuple[str, BlockPlan], ...] = ()
        if isinstance(self.norm, NormSpec):
            children = (("norm", self.norm.plan(replace(scope, width=inner))),)
        return GatedMemoryPlan(
            kind=self.label,
            weights=weights,
            cost=Cost(flops=matmul_flops(weights) + inner, activations=scope.width + 3 * inner),
            children=children,
            inputs=memory_signals(self.of, inner),
            inner=inner,
            act=self.act,
        )

    def _inner(self, scope: Scope) -> int:
        return self.inner or 2 * scope.width
