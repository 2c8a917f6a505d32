"""A kind of stage of another package: two layers with one mixer, which it can neither cut nor lengthen."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from evo.blocks.stages.layers.plan import LayersPlan
from evo.blocks.stages.layers.spec import BlocksSpec
from evo.dsl.organism import Name, StageSpec
from evo.dsl.spec import Kind, Names, Problem, Scope, Spec


class TwinSpec(StageSpec):
    """A mixer, twice."""

    kind: ClassVar[str | None] = "twin"

    twin: Annotated[Name | Spec, Kind("mixer"), Names()]
    """The mixer."""

    @property
    def depth(self) -> int:
        return 2

    @property
    def layer_names(self) -> tuple[str, ...]:
        return ("0", "1")

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        yield self.twin, 2

    def problems(self, scope: Scope) -> Iterator[Problem]:
        return self._run().problems(scope)

    def plan(self, scope: Scope) -> LayersPlan:
        return self._run().plan(scope)

    def _run(self) -> BlocksSpec:
        return BlocksSpec(name=self.name, from_=self.from_, repeat=2, mix=(self.twin,))
