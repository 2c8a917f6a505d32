"""Several mixers side by side."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, sum_scaled
from evo.blocks.flow import Flow
from evo.blocks.parallel.spec import ParallelPlan
from evo.kernels.dispatch import KernelCall


class Parallel(Block):
    """sum_i gains_i * branch_i(x) (Hymba). The branches are received built."""

    gains: nn.Parameter

    def __init__(self, plan: ParallelPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.branches = tuple(children.values())

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return sum_scaled(self.gains, [flow.run(branch, x_BTD) for branch in self.branches])

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of every branch."""
        return [problem for branch in self.branches for problem in branch.problems(x_BTD, flow)]
