"""RWKV-7's time mixing; equations in README.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.blocks.rwkv import TimeMixing, TimeMixingState
from evo.blocks.shift import mixed, shifted
from evo.blocks.wkv7.spec import STREAMS, WKV7Plan
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence

MOST_DECAY = math.exp(-0.5)
"""The largest -log of the decay of a channel."""


class WKV7(TimeMixing):
    """o(gate * (norm(S r) + (sum r k bonus) v))."""

    r_mix: nn.Parameter
    w_mix: nn.Parameter
    k_mix: nn.Parameter
    v_mix: nn.Parameter
    a_mix: nn.Parameter
    g_mix: nn.Parameter
    decay_down: nn.Parameter
    decay_up: nn.Parameter
    decay_base: nn.Parameter
    rate_down: nn.Parameter
    rate_up: nn.Parameter
    rate_base: nn.Parameter
    gate_down: nn.Parameter
    gate_up: nn.Parameter
    share_down: nn.Parameter | None
    share_up: nn.Parameter | None
    share_base: nn.Parameter | None
    removal: nn.Parameter
    write: nn.Parameter
    bonus: nn.Parameter

    def __init__(self, plan: WKV7Plan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.head_dim, self.eps = plan.heads, plan.head_dim, plan.eps
        self.given, self.taken = plan.given, plan.taken

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The recurrence of a parallel pass."""
        q_BTHK = x_BTD.unflatten(-1, (self.heads, -1))
        return [plan_recurrence(q_BTHK, q_BTHK, q_BTHK, log_decay=q_BTHK, dplr=(q_BTHK, q_BTHK))]

    def _mix(self, x_BTD: Tensor, state: TimeMixingState | None, flow: Flow) -> tuple[Tensor, TimeMixingState]:
        earlier_BTD = shifted(x_BTD, None if state is None else state.before_BD, flow.segments_BT)
        x = {name: mixed(x_BTD, earlier_BTD, getattr(self, f"{name}_mix")) for name in STREAMS}
        r_BTHK, k_BTHK, v_BTHV, form = self._parts(x, flow)
        normed_BTD, memory_BHKV = self._read(r_BTHK, k_BTHK, v_BTHV, state, flow, **form)
        bonus_BTH1 = (r_BTHK * k_BTHK * self.bonus).sum(-1, keepdim=True)
        inner_BTD = normed_BTD + (bonus_BTH1 * v_BTHV).flatten(-2)
        gate_BTD = flow.project(flow.project(x["g"], self.gate_down).sigmoid(), self.gate_up)
        return flow.project(inner_BTD * gate_BTD, self.o), TimeMixingState(x_BTD[:, -1], memory_BHKV)

    def _parts(self, x: dict[str, Tensor], flow: Flow) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        """Receptance, key and value by head, and the decay and removal of `recur`."""
        r, k, v = (flow.project(x[name], weight) for name, weight in (("r", self.r), ("k", self.k), ("v", self.v)))
        narrow = flow.project(x["w"], self.decay_down).tanh()
        decay = flow.project(narrow, self.decay_up).to(compute_dtype(k)) + self.decay_base
        rate = (flow.project(flow.project(x["a"], self.rate_down), self.rate_up) + self.rate_base).sigmoid()
        v = self._with_first(v, x["v"], flow)
        removed = F.normalize(self._by_head(k * self.removal), dim=-1)
        k = k * (1 + (rate - 1) * self.write)
        form = {
            "log_decay": self._by_head(-MOST_DECAY * decay.sigmoid()),
            "dplr": (-removed, removed * self._by_head(rate)),
        }
        return self._by_head(r), self._by_head(k), self._by_head(v), form

    def _with_first(self, v_BTD: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.given is not None:
            flow.signals[self.given] = v_BTD
        if self.taken is None:
            return v_BTD
        assert self.share_down is not None
        assert self.share_up is not None
        assert self.share_base is not None
        share_BTD = flow.project(flow.project(x_BTD, self.share_down), self.share_up) + self.share_base
        return mixed(v_BTD, flow.signals[self.taken], share_BTD.sigmoid())
