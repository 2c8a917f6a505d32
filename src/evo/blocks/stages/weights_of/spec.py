"""The language and the plan of a stage that has another's weights."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.adapters.spec import AdapterSpec
from evo.blocks.stages.adapted.spec import AdaptedPlan
from evo.blocks.stages.adapted.use import UsePlan, use_faults, used
from evo.dsl.genes import FIXED
from evo.dsl.layers import StagePlan
from evo.dsl.organism import Name, StageSpec
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class WeightsOfPlan(UsePlan):
    """A run of another stage."""

    builder: ClassVar[str] = "evo.blocks.stages.weights_of.module:WeightsOf"


class WeightsOfSpec(StageSpec):
    """A stage that computes what an earlier one does, with its weights, from what it reads itself: a shared block that
    returns among others (Zamba, Glorioso et al. 2405.16712)."""

    kind: ClassVar[str | None] = "weights_of"
    is_keyed: ClassVar[bool] = True

    weights_of: Annotated[Name, Field(examples=["body"]), FIXED]
    """The stage above whose weights it has. It keeps a cache of its own while decoding."""
    adapters: Annotated[Spec | None, RoleOf("adapter")] = None
    """What this use adds to the linear maps, trained with them (Zamba2: low rank)."""

    def borrowed(self, scope: Scope) -> tuple[StageSpec, ...]:
        other = scope.earlier[self.weights_of]
        assert isinstance(other, StageSpec)
        return (other,)

    def problems(self, scope: Scope) -> Iterator[Fault]:
        other = scope.earlier.get(self.weights_of)
        if not isinstance(other, StageSpec) or isinstance(other, WeightsOfSpec):
            known = [name for name, stage in scope.earlier.items() if not isinstance(stage, WeightsOfSpec)]
            has_none = isinstance(other, WeightsOfSpec)
            what = f"stage '{self.weights_of}' has no weights of its own" if has_none else "no such stage stands above"
            help = f"{suggestion(self.weights_of, known)}known here: {', '.join(known) or 'none'}"
            yield Fault("EVO359", ("weights_of",), what, help)
            return
        if other.stands(self._above(scope)):  # or its own faults are told where it stands
            yield from self._use_faults(other, scope)

    def stands(self, scope: Scope) -> bool:
        return super().stands(scope) and all(other.stands(self._above(scope)) for other in self.borrowed(scope))

    def plan(self, scope: Scope) -> WeightsOfPlan:
        again, beside = used(self._plan(scope), self._adapters)
        return WeightsOfPlan(
            kind=self.label,
            name=self.name,
            reads=self.reads(scope.before),
            ends_normed=again.ends_normed,
            children=beside,
            weights_of=self.weights_of,
            again=again,
        )

    def _plan(self, scope: Scope) -> StagePlan:
        """The plan of the other stage, without the adapters of its own use."""
        other = scope.earlier[self.weights_of]
        assert isinstance(other, StageSpec)
        plan = other.plan(self._above(scope))
        return plan.plain if isinstance(plan, AdaptedPlan) else plan

    def _above(self, scope: Scope) -> Scope:
        """What stands around the other stage here: the stages above it are those that it may run itself."""
        names = list(scope.earlier)
        above = names[: names.index(self.weights_of)]
        return replace(scope, earlier={name: scope.earlier[name] for name in above})

    @property
    def _adapters(self) -> AdapterSpec | None:
        return self.adapters if isinstance(self.adapters, AdapterSpec) else None

    def _use_faults(self, other: StageSpec, scope: Scope) -> Iterator[Fault]:
        """What keeps the other stage from running on what this one reads, or its maps from having adapters here."""
        plan, sources = self._plan(scope), len(dict(self.reads(scope.before))["x"])
        count = len(dict(plan.reads)["x"])
        if sources != count:
            message = f"'{other.name}' sums {count} stages with gains, this one reads {sources}"
            yield Fault("EVO359", ("from" if self.from_ else "weights_of",), message, f"read {count}")
        if len(plan.reads) > 1:
            message = f"'{other.name}' reads more than the stream, which is not handed to it here"
            yield Fault("EVO359", ("weights_of",), message, "take a stage that reads the stream alone")
        if self._adapters is not None:
            yield from use_faults(plan, self._adapters)
