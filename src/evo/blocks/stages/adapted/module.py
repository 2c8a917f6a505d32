"""A stage run with adapters of one use beside its maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from evo.blocks.adapters.module import Adapted
from evo.blocks.base import Adapter, Block
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.adapted.spec import AdaptedPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall


class Beside(Block):
    """Adapters of one use of a block, by the names of its maps, and those of what it contains."""

    def pairs(self, block: Block) -> Iterator[tuple[Block, str, Adapter]]:
        """Each adapter, with the block that has its map and the map's name."""
        for name, child in self.named_children():
            if isinstance(child, Adapter):
                yield block, name, child
            elif isinstance(child, Beside):
                yield from child.pairs(block.child(name))


class Use(Stage):
    """A run of a stage that `take` hands it, and that stands in the organism once."""

    _of: tuple[Stage, ...] = ()  # in a tuple, so that it is no child
    _pairs: tuple[tuple[Block, str, Adapter], ...] = ()

    def take(self, stage: Stage) -> None:
        """Run that stage from now on, with the adapters that are its own beside the stage's maps."""
        self._of = (stage,)
        mine = (child for child in self.children() if isinstance(child, Beside))
        self._pairs = tuple(pair for child in mine for pair in child.pairs(stage))

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D). What blocks keep while decoding, they keep for each of their visits."""
        if self._pairs:
            # looked up in each pass: weights may be exchanged between two (torch.func.functional_call)
            found = {getattr(block, name): adapter for block, name, adapter in self._pairs}
            flow = replace(flow, project=Adapted(flow.project, found), tells_weights_apart=True)
        return self._of[0].run(inputs, flow)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of the stage that it runs."""
        yield from self._of[0].layer_problems(x_BTD, flow)


class AdaptedStage(Use):
    """A stage of its own with adapters."""

    def __init__(self, plan: AdaptedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.take(next(child for child in children.values() if isinstance(child, Stage)))

    @property
    def plain(self) -> Stage:
        """The stage inside."""
        return self._of[0]

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return super().run({"x": [self.merged(inputs["x"])]}, flow)
