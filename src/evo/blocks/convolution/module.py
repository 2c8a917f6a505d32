"""The short convolution as a mixer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.convolution.spec import ConvolutionPlan
from evo.blocks.flow import Flow, State
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True)
class ConvolutionState(State):
    """The inputs of the convolution at the latest W - 1 positions, zeros before the first."""

    past_BWD: Tensor


class Convolution(Block):
    """o(c * act(conv(b * x))), or without maps act(conv(x)); plus x with a residual. See `ConvolutionSpec`."""

    x: nn.Parameter | None
    b: nn.Parameter | None
    c: nn.Parameter | None
    taps: nn.Parameter
    o: nn.Parameter | None

    def __init__(self, plan: ConvolutionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.activation = None if plan.act == "none" else plan.act
        self.residual = plan.residual

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The one convolution of a parallel pass."""
        return [plan_convolution(self._inner(x_BTD, flow), self.taps, activation=self.activation)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ConvolutionState:
        """Zeros, as before the first token."""
        width, size = self.taps.shape
        return ConvolutionState(torch.zeros(batch, size - 1, width, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: ConvolutionState, flow: Flow) -> tuple[Tensor, ConvolutionState]:
        """The next T positions."""
        y_BTD, past_BWD = self._mix(x_BTD, state.past_BWD, flow)
        return y_BTD, ConvolutionState(past_BWD)

    def _mix(self, x_BTD: Tensor, past_BWD: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor]:
        mixed_BTD, past_BWD = short_convolution(
            self._inner(x_BTD, flow),
            self.taps,
            activation=self.activation,
            state_BWD=past_BWD,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        if self.c is not None:
            mixed_BTD = mixed_BTD * flow.project(x_BTD, self.c)
        if self.o is not None:
            mixed_BTD = flow.project(mixed_BTD, self.o)
        return (x_BTD + mixed_BTD if self.residual else mixed_BTD), past_BWD

    def _inner(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What the taps read."""
        inner_BTD = x_BTD if self.x is None else flow.project(x_BTD, self.x)
        return inner_BTD if self.b is None else inner_BTD * flow.project(x_BTD, self.b)
