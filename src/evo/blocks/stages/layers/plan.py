"""The plan of a run of layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from evo.dsl.layers import LayerPlan, StagePlan
from evo.dsl.plan import BlockPlan


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
