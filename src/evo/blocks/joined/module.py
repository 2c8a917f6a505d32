"""A block that reads the outputs of stages beside the stream."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.joined.spec import JoinedPlan
from evo.kernels.dispatch import KernelCall


class Joined(Block):
    """main(norm([x, s, ...])) or main(norm(x + s + ...))."""

    main: Block

    def __init__(self, plan: JoinedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.names, self.by = plan.inputs, plan.by

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return flow.run(self.main, self._read(x_BTD, flow))

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of the block."""
        flow.signals.update(dict.fromkeys(self.names, x_BTD))
        return self.main.problems(self._read(x_BTD, flow), flow)

    def _read(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the block reads."""
        others = [flow.signals[name] for name in self.names]
        x_BTX = torch.cat([x_BTD, *others], dim=-1) if self.by == "concatenation" else sum(others, x_BTD)
        norm = self._modules.get("norm")
        return norm(x_BTX, flow) if isinstance(norm, Norm) else x_BTX
