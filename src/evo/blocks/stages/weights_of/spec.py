"""The language and the plan of a stage that has another's weights."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from pydantic import Field

from evo.base.diagnostics import suggestion
from evo.blocks.adapters.spec import AdapterSpec
from evo.dsl.genes import FIXED
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.organism import Name, StageSpec
from evo.dsl.plan import AdapterPlan, BlockPlan
from evo.dsl.spec import Fault, RoleOf, Scope, Spec


@dataclass(frozen=True, kw_only=True)
class BesidePlan(BlockPlan):
    """Adapters by the names of the maps of another stage's block that they stand beside, and the same for what it
    contains."""

    builder: ClassVar[str] = "evo.blocks.stages.weights_of.module:Beside"

    def blocks(self) -> Iterator[BlockPlan]:
        """None: adapters run with their maps, where the stage runs that these belong to."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class WeightsOfPlan(StagePlan):
    """A run of another stage, which `again` is the plan of, as it costs here."""

    builder: ClassVar[str] = "evo.blocks.stages.weights_of.module:WeightsOf"
    again: StagePlan

    def blocks(self) -> Iterator[BlockPlan]:
        """This block, and what it runs."""
        yield self
        yield from self.again.blocks()

    def with_adapters(self, beside: Callable[[BlockPlan], tuple[tuple[str, AdapterPlan], ...]]) -> Self:
        return replace(super().with_adapters(beside), again=self.again.with_adapters(beside))

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        return self.again.running_layers()

    def inner_stages(self) -> Iterator[StagePlan]:
        yield self.again


class WeightsOfSpec(StageSpec):
    """A stage that computes what an earlier one does, with its weights, from what it reads itself: a shared block that
    returns among others (Zamba, Glorioso et al. 2405.16712)."""

    kind: ClassVar[str | None] = "weights_of"
    is_keyed: ClassVar[bool] = True

    weights_of: Annotated[Name, Field(examples=["body"]), FIXED]
    """The stage above whose weights it has. It keeps a cache of its own while decoding."""
    adapters: Annotated[Spec | None, RoleOf("adapter")] = None
    """What this use adds to the linear maps, trained with them (Zamba2: low rank)."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        other = scope.earlier.get(self.weights_of)
        if not isinstance(other, StageSpec) or isinstance(other, WeightsOfSpec):
            known = [name for name, stage in scope.earlier.items() if not isinstance(stage, WeightsOfSpec)]
            has_none = isinstance(other, WeightsOfSpec)
            what = f"stage '{self.weights_of}' has no weights of its own" if has_none else "no such stage stands above"
            help = f"{suggestion(self.weights_of, known)}known here: {', '.join(known) or 'none'}"
            yield Fault("EVO359", ("weights_of",), what, help)
            return
        if all(fault.severity == "warning" for fault in other.problems(scope)):
            yield from self._use_faults(other, scope)

    def plan(self, scope: Scope) -> WeightsOfPlan:
        again = self._again(scope)
        beside = None if self.adapters is None else _beside(again)
        return WeightsOfPlan(
            kind=self.label,
            name=self.name,
            reads=self.reads(scope.before),
            ends_normed=again.ends_normed,
            children=() if beside is None else (("beside", beside),),
            weights_of=self.weights_of,
            again=again,
        )

    def _again(self, scope: Scope) -> StagePlan:
        """The plan of the other stage, with the adapters of this use."""
        other = scope.earlier[self.weights_of]
        assert isinstance(other, StageSpec)
        plan, spec = other.plan(scope), self.adapters
        return plan.with_adapters(lambda block: _together(block, spec)) if isinstance(spec, AdapterSpec) else plan

    def _use_faults(self, other: StageSpec, scope: Scope) -> Iterator[Fault]:
        """What keeps the other stage from running on what this one reads, or its maps from having adapters here."""
        plan, sources = other.plan(scope), len(dict(self.reads(scope.before))["x"])
        count = len(dict(plan.reads)["x"])
        if sources != count:
            message = f"'{other.name}' sums {count} stages with gains, this one reads {sources}"
            yield Fault("EVO359", ("from" if self.from_ else "weights_of",), message, f"read {count}")
        if len(plan.reads) > 1:
            message = f"'{other.name}' reads more than the stream, which is not handed to it here"
            yield Fault("EVO359", ("weights_of",), message, "take a stage that reads the stream alone")
        if isinstance(self.adapters, AdapterSpec):
            if not self.adapters.trains_beside:
                message = "these adapters need maps that stay as they are, and here the maps are trained"
                yield Fault("EVO359", ("adapters",), message, "write {kind: lora} without four_bits")
            found = self.adapters.problems_on(list(plan.blocks()))
            yield from (replace(fault, path=("adapters", *fault.path)) for fault in found)


def _together(block: BlockPlan, spec: AdapterSpec) -> tuple[tuple[str, AdapterPlan], ...]:
    """The adapters of a block that are trained with their maps; none where it makes another map of one."""
    maps = (weight for weight in spec.targets(block) if weight.name not in block.absorbed)
    return tuple((weight.name, replace(spec.plan_for(weight), is_alone=False)) for weight in maps)


def _beside(plan: BlockPlan) -> BesidePlan | None:
    """The adapters of a block and of all that it contains, without these."""
    inside = ((name, _beside(child)) for name, child in plan.children)
    children = (*plan.adapters, *((name, child) for name, child in inside if child is not None))
    return BesidePlan(kind="beside", children=children) if children else None
