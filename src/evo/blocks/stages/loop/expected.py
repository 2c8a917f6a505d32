"""A loop whose loss is that of all turns, by the chances that tokens stop there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.residual import Residual
from evo.blocks.stages.loop.module import Loop
from evo.blocks.stages.loop.spec import ExpectedLoopPlan


class ExpectedLoop(Loop):
    """Chances p_n = h_n prod over j < n of (1 - h_j), h_n = sigmoid(w s_n + b), the last turn with the rest (Banino et
    al. 2107.05407, eqs. 3 and 5); what it gives is the state at which they sum to the threshold."""

    halt: nn.Parameter
    halt_bias: nn.Parameter

    def __init__(self, plan: ExpectedLoopPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.threshold, self.ponder_loss, self.prior = plan.threshold, plan.ponder_loss, plan.prior

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D). All turns are run for all tokens, which look at one another's."""
        x_BTD, times = self.merged(inputs["x"]), self._times(flow)
        s_BTD, compute = self._first(x_BTD, flow), compute_dtype(x_BTD)
        left_BT = x_BTD.new_zeros(x_BTD.shape[:2], dtype=compute)
        spent_BT, nats_BT, given_BTD = torch.zeros_like(left_BT), torch.zeros_like(left_BT), s_BTD
        for turn in range(times):
            injected_BTD = self._injected(self._normed(Residual(s_BTD), flow), x_BTD, flow)
            s_BTD = self.of[0].run({"x": [injected_BTD]}, flow).value()
            log_share_BT = left_BT
            if turn < times - 1:
                logit_BT = flow.project(s_BTD, self.halt, self.halt_bias)[..., 0].to(compute)
                log_share_BT, left_BT = left_BT + F.logsigmoid(logit_BT), left_BT + F.logsigmoid(-logit_BT)
            share_BT = log_share_BT.exp()
            given_BTD = torch.where((spent_BT < self.threshold)[..., None], s_BTD, given_BTD)
            spent_BT, nats_BT = spent_BT + share_BT, nats_BT + share_BT * (log_share_BT - self._log_prior(turn, times))
            if flow.turns is not None:
                flow.turns.append((s_BTD, share_BT))
        flow.add_loss("ponder", nats_BT.mean(), self.ponder_loss)
        return Residual(given_BTD)

    def _log_prior(self, turn: int, times: int) -> float:
        """Of stopping at a turn: all alike, or by a chance that is the same at each that is reached."""
        if self.prior is None:
            return -math.log(times)
        return turn * math.log1p(-self.prior) + (math.log(self.prior) if turn < times - 1 else 0.0)
