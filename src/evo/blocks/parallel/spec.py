"""The language and the plan of parallel mixers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, gains
from evo.dsl.references import mixer_problems, plan_mixer
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class ParallelPlan(BlockPlan):
    """Mixers side by side: its children, in order."""

    builder: ClassVar[str] = "evo.blocks.parallel.module:Parallel"
    summed_by: ClassVar[str] = "gains"

    @property
    def outlets(self) -> tuple[BlockPlan, ...]:
        return tuple(child for _, child in self.children)


class ParallelSpec(Spec):
    """All mixers read the same input; their outputs are added, each scaled by learned gains per channel (Hymba)."""

    kind: ClassVar[str | None] = "parallel"
    is_keyed: ClassVar[bool] = True

    parallel: Annotated[
        tuple[Name | Spec, ...], AsTuple, ListOf(), RoleOf("mixer"), Ref(), Field(min_length=2, max_length=16)
    ]
    """The mixers, at least two."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        for index, entry in enumerate(self.parallel):
            yield from mixer_problems(entry, scope, ("parallel", index))

    def plan(self, scope: Scope) -> ParallelPlan:
        branches = tuple((f"branch{i}", plan_mixer(m, scope)) for i, m in enumerate(self.parallel))
        count = len(branches)
        return ParallelPlan(
            kind=self.label,
            weights=(gains("gains", count, scope.width),),
            cost=Cost(flops=2.0 * count * scope.width, activations=count * scope.width),
            children=branches,
        )
