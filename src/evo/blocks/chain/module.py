"""Blocks one behind the other."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.chain.spec import ChainPlan
from evo.blocks.flow import Flow
from evo.kernels.dispatch import KernelCall


class Chain(Block):
    """f_n(... f_1(x)). The links are received built."""

    def __init__(self, plan: ChainPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.links = tuple(children.values())

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        for link in self.links:
            x_BTD = flow.run(link, x_BTD)
        return x_BTD

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """Those of every link: each gives what it gets in shape and dtype."""
        return [problem for link in self.links for problem in link.problems(x_BTD, flow)]
