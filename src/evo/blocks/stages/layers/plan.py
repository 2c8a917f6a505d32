"""The plan of a run of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.organism import StageSpec
from evo.dsl.paths import MERGE
from evo.dsl.plan import BlockPlan, Cost, gains
from evo.dsl.spec import KV, Scope

END = "end_norm"


@dataclass(frozen=True, kw_only=True)
class LayersPlan(StagePlan):
    """A run of layers.

    order: the names of its layers as they run; a shared one stands there several times. norm_end: the name of the norm
    that its output passes, if there is one.
    """

    builder: ClassVar[str] = "evo.blocks.stages.layers.module:Layers"
    order: tuple[str, ...]
    norm_end: str | None = None

    def blocks(self) -> Iterator[BlockPlan]:
        """This block, and its layers as often as they run."""
        yield self
        children = dict(self.children)
        for name in (*self.order, *filter(None, [self.norm_end])):
            yield from children[name].blocks()

    def running_layers(self) -> Iterator[tuple[str, LayerPlan]]:
        built = {name: layer for name, layer in self.children if isinstance(layer, LayerPlan)}
        return ((name, built[name]) for name in self.order)


def layers_plan(
    stage: StageSpec, scope: Scope, layer: Callable[[int], LayerPlan], end: BlockPlan | None = None
) -> LayersPlan:
    """The plan of a stage whose layers are called as `stage.layer_names` says.

    layer: the plan of the layer that runs at a place; asked once for each name. end: a norm that the output passes.
    """
    names, reads = stage.layer_names, stage.reads(scope.before)
    built = {name: layer(index) for index, name in enumerate(dict.fromkeys(names))}
    sources = len(dict(reads)["x"])
    return LayersPlan(
        kind=stage.label,
        name=stage.name,
        reads=reads,
        ends_normed=end is not None or built[names[-1]].ends_normed,
        weights=(gains(MERGE, sources, scope.width),) if sources > 1 else (),
        cost=Cost(flops=2.0 * sources * scope.width) if sources > 1 else Cost(),
        outputs=(KV,) if KV in dict(reads) else (),
        children=(*built.items(), *(((END, end),) if end is not None else ())),
        order=names,
        norm_end=None if end is None else END,
    )
