"""Cycles: a fast state several times, then a slow one, again and again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.cycles.spec import CyclesPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall


class Cycles(Stage):
    """l <- f(l + h (+ x)) so often, then h <- g(h + l), and all of it so often."""

    start: nn.Parameter | None
    slow_start: nn.Parameter | None

    def __init__(self, plan: CyclesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        stages = [child for child in children.values() if isinstance(child, Stage)]
        self.fast, self.slow = (stages[0],), (stages[-1],)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D), the last sum left open."""
        x_BTD = self.merged(inputs["x"])
        h = Residual(x_BTD if self.slow_start is None else self.slow_start.to(x_BTD.dtype).expand(x_BTD.shape))
        l_BTD = torch.zeros_like(x_BTD) if self.start is None else self.start.to(x_BTD.dtype).expand(x_BTD.shape)
        for through in self.plan.backprop:
            h_BTD = h.value()
            read_BTD = h_BTD if self.plan.inject == "start" else h_BTD + x_BTD
            for turn in range(self.plan.turns_of_fast):
                if 0 < turn == self.plan.turns_of_fast - through:
                    l_BTD = l_BTD.detach()
                l_BTD = self.fast[0].run({"x": [l_BTD + read_BTD]}, flow).value()
            h = self.slow[0].run({"x": [h_BTD + l_BTD]}, flow)
        return h

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stages, once each."""
        for stage in dict.fromkeys((*self.fast, *self.slow)):
            yield from stage.layer_problems(x_BTD, flow)
