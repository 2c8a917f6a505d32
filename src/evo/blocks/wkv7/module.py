"""RWKV-7's time mixing; equations in README.md."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.shift import shifted
from evo.blocks.wkv7.spec import STREAMS, WKV7Plan
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur

MOST_DECAY = math.exp(-0.5)
"""The largest -log of the decay of a channel."""


@dataclass(frozen=True)
class WKV7State(State):
    """The input before these, (B, D), and the state of every head, (B, H, K, V) float32 or wider."""

    before_BD: Tensor
    memory_BHKV: Tensor


class WKV7(Block):
    """o(gate * (norm(S r) + (sum r k bonus) v))."""

    r_mix: nn.Parameter
    w_mix: nn.Parameter
    k_mix: nn.Parameter
    v_mix: nn.Parameter
    a_mix: nn.Parameter
    g_mix: nn.Parameter
    r: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
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
    norm_gain: nn.Parameter
    norm_bias: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: WKV7Plan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.head_dim, self.eps = plan.heads, plan.head_dim, plan.eps
        self.given, self.taken = plan.given, plan.taken

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The recurrence of a parallel pass."""
        q_BTHK = x_BTD.unflatten(-1, (self.heads, -1))
        return [plan_recurrence(q_BTHK, q_BTHK, q_BTHK, log_decay=q_BTHK, dplr=(q_BTHK, q_BTHK))]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> WKV7State:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        memory = torch.zeros(batch, self.heads, self.head_dim, self.head_dim, device=device, dtype=kept)
        return WKV7State(torch.zeros(batch, self.heads * self.head_dim, device=device, dtype=dtype), memory)

    def extend(self, x_BTD: Tensor, state: WKV7State, flow: Flow) -> tuple[Tensor, WKV7State]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: WKV7State | None, flow: Flow) -> tuple[Tensor, WKV7State]:
        earlier_BTD = shifted(x_BTD, None if state is None else state.before_BD, flow.segments_BT)
        x = {name: torch.lerp(x_BTD, earlier_BTD, getattr(self, f"{name}_mix")) for name in STREAMS}
        r_BTHK, parts, v_BTHV = self._parts(x, flow)
        o_BTHV, memory_BHKV = recur(
            r_BTHK,
            parts["k"],
            v_BTHV,
            log_decay=parts["log_decay"],
            dplr=parts["dplr"],
            scale=1.0,
            initial_state_BHKV=None if state is None else state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        normed_BTD = F.group_norm(
            o_BTHV.flatten(0, 1).flatten(-2), self.heads, self.norm_gain, self.norm_bias, self.eps
        ).view_as(x_BTD)
        bonus_BTH1 = (r_BTHK * parts["k"] * self.bonus).sum(-1, keepdim=True)
        inner_BTD = normed_BTD + (bonus_BTH1 * v_BTHV).flatten(-2)
        gate_BTD = flow.project(flow.project(x["g"], self.gate_down).sigmoid(), self.gate_up)
        return flow.project(inner_BTD * gate_BTD, self.o), WKV7State(x_BTD[:, -1], memory_BHKV)

    def _parts(self, x: dict[str, Tensor], flow: Flow) -> tuple[Tensor, dict[str, Any], Tensor]:
        """Receptance; key, log decay, what is read and written in removal; and value, each by head."""
        r, k, v = (flow.project(x[name], weight) for name, weight in (("r", self.r), ("k", self.k), ("v", self.v)))
        narrow = flow.project(x["w"], self.decay_down).tanh()
        decay = flow.project(narrow, self.decay_up).to(compute_dtype(k)) + self.decay_base
        rate = (flow.project(flow.project(x["a"], self.rate_down), self.rate_up) + self.rate_base).sigmoid()
        v = self._with_first(v, x["v"], flow)
        removed = F.normalize(self._by_head(k * self.removal), dim=-1)
        k = k * (1 + (rate - 1) * self.write)
        parts = {
            "k": self._by_head(k),
            "log_decay": self._by_head(-MOST_DECAY * decay.sigmoid()),
            "dplr": (-removed, removed * self._by_head(rate)),
        }
        return self._by_head(r), parts, self._by_head(v)

    def _with_first(self, v_BTD: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.given is not None:
            flow.signals[self.given] = v_BTD
        if self.taken is None:
            return v_BTD
        assert self.share_down is not None
        assert self.share_up is not None
        assert self.share_base is not None
        share_BTD = flow.project(flow.project(x_BTD, self.share_down), self.share_up) + self.share_base
        return torch.lerp(v_BTD, flow.signals[self.taken], share_BTD.sigmoid().to(v_BTD.dtype))

    def _by_head(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, self.head_dim))
