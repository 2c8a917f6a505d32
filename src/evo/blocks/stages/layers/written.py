"""The language of a run of layers in its general form: whole layers that cycle together."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.norm.spec import NormSpec
from evo.blocks.stages.layers.cycle import CyclingSpec, KvAdd, numbered, turned
from evo.blocks.stages.layers.plan import LayersPlan, layers_plan
from evo.dsl.genes import Gene
from evo.dsl.layers import LayerPlan
from evo.dsl.organism import Name, StageSpec
from evo.dsl.references import ABSOLUTE, placed
from evo.dsl.spec import AsTuple, Fault, ListOf, Ref, RoleOf, Scope, Spec
from evo.dsl.tree import replaced


class LayersSpec(CyclingSpec):
    """A repeated run of layers that are written out: each a list of sublayers, every norm a value in its slot."""

    kind: ClassVar[str | None] = "layers"
    is_keyed: ClassVar[bool] = True

    repeat: Annotated[int, Field(ge=1, le=512), Gene(1, 12, "+1")] = 1
    """How many layers."""
    layers: Annotated[tuple[Name | Spec, ...], AsTuple, ListOf(bare=True), RoleOf("layer"), Ref(), Field(min_length=1)]
    """Its layer, or a list that cycles over the repeats. Text names an entry of the organism's `layers`."""
    norm_end: Annotated[Spec | None, RoleOf("norm")] = None
    """A norm that the stage's output passes; on the last stage, it is the final norm."""
    position: Annotated[Spec | None, RoleOf("position")] = None
    """Overrides the organism's position encoding."""
    kv_add: KvAdd = None
    """Stages whose sum is added to what its attentions make keys and values of (Fleuret 2025)."""
    streams: Annotated[Spec | None, RoleOf("streams")] = None
    """What it has instead of one residual stream (hyper-connections); one if left out."""
    share: bool = False
    """Whether the repeats share one set of weights for each entry of the list."""

    @property
    def is_normed(self) -> bool:
        return self.norm_end is not None

    @property
    def cycle(self) -> int:
        """After how many layers the list begins again."""
        return len(self.layers)

    def part(self, name: str, start: int, count: int) -> StageSpec | None:
        if self.share or self.streams is not None:
            return None
        layers = turned(self.layers, start)[:count]
        return replaced(self, {("name",): name, ("repeat",): count, ("layers",): layers})

    def entries(self) -> Iterator[tuple[str | Spec, int]]:
        return self.counted(self.layers)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = list(self._meant(scope))
        yield from faults
        if all(fault.severity == "warning" for fault in faults):
            yield from self.streams_problems(
                scope, lambda index: self._layer(numbered(self._scope(scope), index), index)
            )

    def _meant(self, scope: Scope) -> Iterator[Fault]:
        inner = self._scope(scope)
        for index, entry in enumerate(self.layers):
            yield from _layer_problems(entry, inner, ("layers", index))
        if isinstance(self.norm_end, NormSpec):
            yield from self.norm_end.slot_problems(scope.width, ("norm_end",))
        yield from self.kv_problems(scope)
        yield from self.cycle_problems(inner, layers=self.layers)

    def plan(self, scope: Scope) -> LayersPlan:
        inner, end = self._scope(scope), self.norm_end
        assert end is None or isinstance(end, NormSpec)
        return layers_plan(
            self, scope, lambda index: self._layer(numbered(inner, index), index), end and end.plan(scope), self.streams
        )

    def _scope(self, scope: Scope) -> Scope:
        return self.with_kv(replace(scope, position=self.position or scope.position))

    def _layer(self, scope: Scope, index: int) -> LayerPlan:
        entry = self.layers[index % self.cycle]
        plan = (scope.layers[entry] if isinstance(entry, str) else entry).plan(scope)
        assert isinstance(plan, LayerPlan)
        return plan


def _layer_problems(entry: str | Spec, scope: Scope, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if not isinstance(entry, str):
        yield from (placed(problem, *path) for problem in entry.problems(scope))
    elif entry in scope.layers:
        where = (ABSOLUTE, "organism", "layers", entry)
        yield from (placed(problem, *where) for problem in scope.layers[entry].problems(scope))
    else:
        known = ", ".join(scope.layers) or "none"
        help = f"{suggestion(entry, scope.layers)}known layers: {known}"
        yield Fault("EVO320", path, f"no layer is named '{entry}'", help)
