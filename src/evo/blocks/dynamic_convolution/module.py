"""Convolutions whose taps tokens make, in plain torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.dynamic_convolution.spec import DynamicConvolutionPlan
from evo.blocks.flow import Flow, State
from evo.kernels.convolution.dynamic import TABLE
from evo.kernels.dispatch import KernelCall, choose
from evo.kernels.plain import plain_call


@dataclass(frozen=True)
class DynamicConvolutionState(State):
    """The values at the latest W - 1 tokens, (B, W - 1, C)."""

    past_BWC: Tensor


class DynamicConvolution(Block):
    """o(sum_i w_ti v_(t-i)) by parts of channels (Wu et al. 1901.10430, eqs. 2 to 4)."""

    v: nn.Parameter
    gate: nn.Parameter | None
    taps: nn.Parameter | None
    make_down: nn.Parameter | None
    make: nn.Parameter | None
    o: nn.Parameter

    def __init__(self, plan: DynamicConvolutionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        state = self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype)
        return self.extend(x_BTD, state, flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> DynamicConvolutionState:
        """Zeros, as before the first token."""
        return DynamicConvolutionState(
            torch.zeros(batch, self.plan.size - 1, self.plan.inner, device=device, dtype=dtype)
        )

    def extend(
        self, x_BTD: Tensor, state: DynamicConvolutionState, flow: Flow
    ) -> tuple[Tensor, DynamicConvolutionState]:
        """The next T positions."""
        v_BTC = flow.project(x_BTD, self.v)
        if self.gate is not None:
            v_BTC = v_BTC * flow.project(x_BTD, self.gate).sigmoid()
        known_BSC, taps_BTHW = torch.cat((state.past_BWC.to(v_BTC.dtype), v_BTC), dim=1), self._taps(x_BTD, flow)
        run = choose(TABLE, plain_call(TABLE, x_BTD), self.backend).backend.run
        y_BTD = flow.project(run(known_BSC, taps_BTHW, flow.segments_BT).to(x_BTD.dtype), self.o)
        return y_BTD, DynamicConvolutionState(known_BSC[:, v_BTC.shape[1] :])

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution."""
        del flow
        return [plain_call(TABLE, x_BTD)]

    def _taps(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The taps of each token, (B, T, H, W), its own last, in float32 or wider."""
        if self.taps is not None:
            numbers = self.taps.to(compute_dtype(x_BTD)).expand(*x_BTD.shape[:2], -1, -1)
        else:
            assert self.make is not None
            inner = x_BTD if self.make_down is None else F.silu(flow.project(x_BTD, self.make_down))
            numbers = flow.project(inner, self.make).to(compute_dtype(x_BTD)).unflatten(-1, (self.plan.heads, -1))
        return numbers.softmax(-1) if self.plan.weigh == "softmax" else numbers
