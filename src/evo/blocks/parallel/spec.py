"""The language and the plan of parallel mixers."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.organism import Name
from evo.dsl.plan import BlockPlan, Cost, Scope, gains
from evo.dsl.references import mixer_problems, resolve_mixer
from evo.dsl.spec import AsTuple, Kind, Many, Names, Problem, Spec


class ParallelSpec(Spec):
    """All mixers read the same input; their outputs are added, each scaled by learned gains per channel (Hymba)."""

    form: ClassVar[str | None] = "parallel"

    parallel: Annotated[
        tuple[Name | Spec, ...], AsTuple, Many(), Kind("mixer"), Names(), Field(min_length=2, max_length=16)
    ]
    """The mixers, at least two."""

    def problems(self, scope: Scope) -> Iterator[Problem]:
        for index, entry in enumerate(self.parallel):
            yield from mixer_problems(entry, scope, ("parallel", index))

    def plan(self, scope: Scope) -> BlockPlan:
        branches = tuple((f"branch{i}", resolve_mixer(m, scope).plan(scope)) for i, m in enumerate(self.parallel))
        count = len(branches)
        cost = Cost(flops=2.0 * count * scope.width, activations=count * scope.width)
        return BlockPlan(
            "parallel", "evo.blocks.parallel.module:Parallel", {}, (gains("gains", count, scope.width),), cost, branches
        )
