"""Several mixers side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Mixer, State, sum_scaled
from evo.dsl.plan import BlockPlan
from evo.kernels.dispatch import Problem


@dataclass(frozen=True)
class ParallelState(State):
    """The branches' states, in order."""

    branches: tuple[State, ...]


class Parallel(Mixer):
    """sum_i gains_i * branch_i(x) (Hymba). The branches are received built."""

    gains: nn.Parameter

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.names = tuple(children)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return sum_scaled(self.gains, [branch(x_BTD) for branch in self._branches()])

    def problems(self, x_BTD: Tensor) -> list[Problem]:
        """Those of every branch."""
        return [problem for branch in self._branches() for problem in branch.problems(x_BTD)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ParallelState:
        """The initial state of every branch."""
        return ParallelState(tuple(branch.initial_state(batch, device, dtype) for branch in self._branches()))

    def extend(self, x_BTD: Tensor, state: ParallelState) -> tuple[Tensor, ParallelState]:
        """The next T positions."""
        steps = [branch.extend(x_BTD, before) for branch, before in zip(self._branches(), state.branches, strict=True)]
        y_BTD = sum_scaled(self.gains, [y for y, _ in steps])
        return y_BTD, ParallelState(tuple(after for _, after in steps))

    def _branches(self) -> tuple[Mixer, ...]:
        found = tuple(self.get_submodule(name) for name in self.names)
        return tuple(branch for branch in found if isinstance(branch, Mixer))
