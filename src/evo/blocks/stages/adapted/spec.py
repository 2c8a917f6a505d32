"""The language and the plan of a stage with adapters of its own use."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from evo.blocks.adapters.spec import AdapterSpec
from evo.blocks.stages.adapted.use import UsePlan, use_faults, used
from evo.blocks.stages.around import AroundSpec
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.paths import MERGE
from evo.dsl.plan import Cost, gains
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class AdaptedPlan(UsePlan):
    """A stage, its first child, with adapters beside its maps."""

    builder: ClassVar[str] = "evo.blocks.stages.adapted.module:AdaptedStage"

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        of, _ = self.children[0]
        return ((f"{of}.{name}", layer) for name, layer in super().running_layers())

    @property
    def lends(self) -> str:
        return self.children[0][0]

    @property
    def plain(self) -> StagePlan:
        """The stage without them."""
        _, stage = self.children[0]
        assert isinstance(stage, StagePlan)
        return stage


class AdaptedSpec(AroundSpec):
    """A stage whose maps have adapters that are trained with them. `weights_of` takes the stage without these, so that
    every use of a shared block has its own (Zamba2, Glorioso et al. 2411.15242)."""

    kind: ClassVar[str | None] = "adapted"

    of: Annotated[Spec, RoleOf("stage")]
    """The stage. It reads what stands around it, so it has no `from`."""
    adapters: Annotated[Spec, RoleOf("adapter", default="lora")]
    """What this use adds to the linear maps."""

    @property
    def is_normed(self) -> bool:
        return self._inner.is_normed

    def problems(self, scope: Scope) -> Iterator[Fault]:
        faults = self._read_through(scope)
        yield from faults
        if all(fault.severity == "warning" for fault in faults):
            yield from use_faults(self._inner.plan(self._scope(scope)), self._adapters)

    def plan(self, scope: Scope) -> AdaptedPlan:
        plain, reads = self._inner.plan(self._scope(scope)), self.reads(scope.before)
        again, beside = used(plain, self._adapters)
        sources = len(dict(reads)["x"])
        return AdaptedPlan(
            kind=self.label,
            name=self.name,
            reads=reads,
            ends_normed=plain.ends_normed,
            weights=(gains(MERGE, sources, scope.width),) if sources > 1 else (),
            cost=Cost(flops=2.0 * sources * scope.width) if sources > 1 else Cost(),
            children=((self._child, plain), *beside),
            again=again,
        )

    def _scope(self, scope: Scope) -> Scope:
        """No stages above: this changes the maps of the stage inside, and those are another's."""
        return replace(super()._scope(scope), earlier={})

    @property
    def _adapters(self) -> AdapterSpec:
        assert isinstance(self.adapters, AdapterSpec)
        return self.adapters
