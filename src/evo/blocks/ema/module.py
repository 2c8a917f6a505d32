"""Damped moving averages as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.ema.spec import EmaPlan
from evo.blocks.flow import Flow, State
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan


@dataclass(frozen=True)
class EmaState(State):
    """h of each channel, (B, D N), float32 or wider."""

    memory_BX: Tensor


class Ema(Block):
    """act(sum_n c_n h_n / sqrt(N) + d x) by channel."""

    take: nn.Parameter
    damp: nn.Parameter
    spread: nn.Parameter
    gather: nn.Parameter
    skip: nn.Parameter

    def __init__(self, plan: EmaPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.channels, self.state, self.act = plan.channels, plan.state, ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The scan of a parallel pass."""
        wide_BTX = x_BTD.new_empty(*x_BTD.shape[:2], self.channels * self.state, dtype=compute_dtype(x_BTD))
        return [plan_scan(wide_BTX, wide_BTX)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> EmaState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        return EmaState(torch.zeros(batch, self.channels * self.state, device=device, dtype=kept))

    def extend(self, x_BTD: Tensor, state: EmaState, flow: Flow) -> tuple[Tensor, EmaState]:
        """The next T positions."""
        compute = compute_dtype(x_BTD)
        take_DN = self.take.to(compute).sigmoid()
        keep_DN = 1.0 - take_DN * self.damp.to(compute).sigmoid()
        in_BTDN = x_BTD.to(compute)[..., None] * (take_DN * self.spread.to(compute))
        h_BTX, memory_BX = scan(
            keep_DN.flatten().expand(*x_BTD.shape[:2], -1),
            in_BTDN.flatten(-2),
            state.memory_BX,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        h_BTDN = h_BTX.unflatten(-1, keep_DN.shape)
        read_BTD = (h_BTDN * self.gather.to(compute)).sum(-1) * self.state**-0.5
        return self.act(read_BTD.to(x_BTD.dtype) + self.skip.to(x_BTD.dtype) * x_BTD), EmaState(memory_BX)
