"""What every built stage is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, sum_scaled
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.dsl.layers import StagePlan
from evo.kernels.dispatch import KernelCall


class Stage(Block):
    """A block that reads the outputs of earlier stages and gives one of its own.

    merge: gains (N, D) of the N stages that it reads as x, if there are several.
    """

    merge: nn.Parameter | None

    def __init__(self, plan: StagePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.reads = plan.reads

    def borrow(self, stages: Mapping[str, Stage]) -> None:
        """Take what it has of other stages of its organism, by name, once all are built: nothing by default."""

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """From its inputs by name, each the outputs (B, T, D) that it reads there, to its output."""
        raise NotImplementedError

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """The kernel problems that it would pose for such an input, under the path of whatever poses them."""
        yield self.path, self.problems(x_BTD, flow)

    def merged(self, sources_BTD: Sequence[Tensor]) -> Tensor:
        """The one source as it is, or the sum of several, each scaled by its gains."""
        return sources_BTD[0] if self.merge is None else sum_scaled(self.merge, sources_BTD)


class Passed:
    """A stage as a function of the tokens that pass it; what is inside keeps its own states."""

    has_state = False

    def __init__(self, stage: Stage) -> None:
        self.stage, self.path = stage, stage.path

    def __call__(self, x_BTD: Tensor, flow: Flow, /) -> Tensor:
        return self.stage.run({"x": [x_BTD]}, flow).value()

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> State:
        """It has none."""
        raise NotImplementedError

    def extend(self, x_BTD: Tensor, state: State, flow: Flow) -> tuple[Tensor, State]:
        """It has none."""
        raise NotImplementedError
