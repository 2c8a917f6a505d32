"""A loop that each token leaves when it wants to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.loop.module import Loop
from evo.blocks.stages.loop.spec import HaltingLoopPlan


class HaltingLoop(Loop):
    """sum over turns n of p_n s_n, p_n = sigmoid(w s_n + b) until these sum to the threshold; the last has the rest."""

    halt: nn.Parameter
    halt_bias: nn.Parameter

    def __init__(self, plan: HaltingLoopPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.threshold, self.ponder_loss = plan.threshold, plan.ponder_loss

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D). A token that has stopped stays as it is, where later turns of others look at it."""
        x_BTD = self.merged(inputs["x"])
        s_BTD, times = self._first(x_BTD, flow), self._times(flow)
        total_BTD, spent_BT1 = torch.zeros_like(x_BTD), x_BTD.new_zeros(*x_BTD.shape[:2], 1, dtype=compute_dtype(x_BTD))
        turns_BT1, goes_on_BT1 = spent_BT1, torch.ones_like(spent_BT1, dtype=torch.bool)
        for turn in range(times):
            injected_BTD = self._injected(self._normed(Residual(s_BTD), flow), x_BTD, flow)
            new_BTD = self.of[0].run({"x": [injected_BTD]}, flow).value()
            s_BTD = torch.where(goes_on_BT1, new_BTD, s_BTD)
            share_BT1 = flow.project(s_BTD, self.halt, self.halt_bias).to(spent_BT1.dtype).sigmoid()
            stops_BT1 = goes_on_BT1
            if turn < times - 1:
                stops_BT1 = goes_on_BT1 & (spent_BT1 + share_BT1 >= self.threshold)
            share_BT1 = torch.where(stops_BT1, 1 - spent_BT1, share_BT1) * goes_on_BT1
            total_BTD = total_BTD + share_BT1.to(s_BTD.dtype) * s_BTD
            turns_BT1 = turns_BT1 + goes_on_BT1 + share_BT1 * stops_BT1
            spent_BT1, goes_on_BT1 = spent_BT1 + share_BT1, goes_on_BT1 & ~stops_BT1
        flow.add_loss("ponder", turns_BT1.mean(), self.ponder_loss)
        return Residual(total_BTD)
