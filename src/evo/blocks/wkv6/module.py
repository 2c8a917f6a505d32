"""The time mixing of RWKV-5 and RWKV-6; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.rwkv import TimeMixing, TimeMixingState
from evo.blocks.shift import mixed, shifted
from evo.blocks.wkv6.spec import STREAMS, WKV6Plan
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence


class WKV6(TimeMixing):
    """o(silu(g) * norm(r (S + diag(bonus) k^T v)))."""

    stream_mix: nn.Parameter
    x_mix: nn.Parameter | None
    mix_down: nn.Parameter | None
    mix_up: nn.Parameter | None
    g: nn.Parameter
    decay_down: nn.Parameter | None
    decay_up: nn.Parameter | None
    decay_base: nn.Parameter
    bonus: nn.Parameter

    def __init__(self, plan: WKV6Plan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.head_dim, self.eps = plan.heads, plan.head_dim, plan.eps

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The recurrence of a parallel pass."""
        q_BTHK = x_BTD.unflatten(-1, (self.heads, -1))
        return [plan_recurrence(q_BTHK, q_BTHK, q_BTHK, log_decay=q_BTHK, bonus_HK=self.bonus)]

    def _mix(self, x_BTD: Tensor, state: TimeMixingState | None, flow: Flow) -> tuple[Tensor, TimeMixingState]:
        x = self._streams(x_BTD, shifted(x_BTD, None if state is None else state.before_BD, flow.segments_BT), flow)
        r, k, v = (self._by_head(flow.project(x[n], w)) for n, w in (("r", self.r), ("k", self.k), ("v", self.v)))
        decay_BTD = self.decay_base.expand_as(x_BTD)
        if self.decay_down is not None and self.decay_up is not None:
            narrow = flow.project(x["w"], self.decay_down).tanh()
            decay_BTD = flow.project(narrow, self.decay_up).to(compute_dtype(x_BTD)) + decay_BTD
        log_decay = self._by_head(-decay_BTD.exp())
        normed_BTD, memory_BHKV = self._read(r, k, v, state, flow, log_decay=log_decay, bonus_HK=self.bonus)
        gated_BTD = normed_BTD * F.silu(flow.project(x["g"], self.g))
        return flow.project(gated_BTD, self.o), TimeMixingState(x_BTD[:, -1], memory_BHKV)

    def _streams(self, x_BTD: Tensor, earlier_BTD: Tensor, flow: Flow) -> dict[str, Tensor]:
        """What each stream reads: x + (x_{t-1} - x) (mix + what the data says of it)."""
        shares_SBTD, count = self.stream_mix[:, None, None], len(self.stream_mix)
        if self.x_mix is not None and self.mix_down is not None and self.mix_up is not None:
            narrow_BTX = flow.project(mixed(x_BTD, earlier_BTD, self.x_mix), self.mix_down).tanh()
            shares_SBTD = flow.project(narrow_BTX.unflatten(-1, (count, -1)).movedim(-2, 0), self.mix_up) + shares_SBTD
        return dict(zip(STREAMS[-count:], mixed(x_BTD, earlier_BTD, shares_SBTD).unbind(0), strict=True))
