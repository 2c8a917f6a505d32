"""One use of a stage: what it has beside the stage's maps, trained with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from evo.blocks.adapters.spec import AdapterSpec
from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.plan import AdapterPlan, BlockPlan
from evo.dsl.spec import Fault


@dataclass(frozen=True, kw_only=True)
class BesidePlan(BlockPlan):
    """Adapters by the names of the maps of a stage's block that they stand beside, and the same for what it
    contains."""

    builder: ClassVar[str] = "evo.blocks.stages.adapted.module:Beside"

    def blocks(self) -> Iterator[BlockPlan]:
        """None: adapters run with their maps, where the stage runs that these belong to."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class UsePlan(StagePlan):
    """A run of a stage, which `again` is the plan of, as it costs here."""

    again: StagePlan

    def blocks(self) -> Iterator[BlockPlan]:
        """This block, and what it runs."""
        yield self
        yield from self.again.blocks()

    def with_adapters(self, beside: Callable[[BlockPlan], tuple[tuple[str, AdapterPlan], ...]]) -> Self:
        return replace(super().with_adapters(beside), again=self.again.with_adapters(beside))

    def running(self, other: BlockPlan, make: Callable[[BlockPlan, BlockPlan], BlockPlan]) -> Self:
        assert isinstance(other, UsePlan)
        again = make(self.again, other.again)
        assert isinstance(again, StagePlan)
        return replace(self, again=again)

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        return self.again.running_layers()

    def inner_stages(self) -> Iterator[StagePlan]:
        yield self.again


def used(plan: StagePlan, spec: AdapterSpec | None) -> tuple[StagePlan, tuple[tuple[str, BlockPlan], ...]]:
    """A stage with the adapters of one use, and these by themselves as a child of that."""
    if spec is None:
        return plan, ()
    again = plan.with_adapters(lambda block: _together(block, spec))
    beside = _beside(again)
    return again, () if beside is None else (("beside", beside),)


def use_faults(plan: StagePlan, spec: AdapterSpec) -> Iterator[Fault]:
    """What keeps the maps of a stage from having these adapters in one use; paths are relative to that."""
    if not spec.trains_beside:
        message = "these adapters need maps that stay as they are, and here the maps are trained"
        yield Fault("EVO359", ("adapters",), message, "write {kind: lora} without four_bits")
    found = spec.problems_on(list(plan.blocks()))
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
