"""RWKV-6's time mixing; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.shift import shifted
from evo.blocks.wkv6.spec import STREAMS, WKV6Plan
from evo.kernels.dispatch import KernelCall
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur


@dataclass(frozen=True)
class WKV6State(State):
    """The input before these, (B, D), and the state of every head, (B, H, K, V) float32 or wider."""

    before_BD: Tensor
    memory_BHKV: Tensor


class WKV6(Block):
    """o(silu(g) * norm(r (S + diag(bonus) k^T v)))."""

    x_mix: nn.Parameter
    stream_mix: nn.Parameter
    mix_down: nn.Parameter
    mix_up: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    r: nn.Parameter
    g: nn.Parameter
    decay_down: nn.Parameter
    decay_up: nn.Parameter
    decay_base: nn.Parameter
    bonus: nn.Parameter
    norm_gain: nn.Parameter
    norm_bias: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: WKV6Plan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.head_dim, self.eps = plan.heads, plan.head_dim, plan.eps

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The recurrence of a parallel pass."""
        q_BTHK = x_BTD.unflatten(-1, (self.heads, -1))
        return [plan_recurrence(q_BTHK, q_BTHK, q_BTHK, log_decay=q_BTHK, bonus_HK=self.bonus)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> WKV6State:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        memory = torch.zeros(batch, self.heads, self.head_dim, self.head_dim, device=device, dtype=kept)
        return WKV6State(torch.zeros(batch, self.heads * self.head_dim, device=device, dtype=dtype), memory)

    def extend(self, x_BTD: Tensor, state: WKV6State, flow: Flow) -> tuple[Tensor, WKV6State]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: WKV6State | None, flow: Flow) -> tuple[Tensor, WKV6State]:
        x = self._streams(x_BTD, shifted(x_BTD, None if state is None else state.before_BD, flow.segments_BT), flow)
        r, k, v = (self._by_head(flow.project(x[n], w)) for n, w in (("r", self.r), ("k", self.k), ("v", self.v)))
        narrow = flow.project(x["w"], self.decay_down).tanh()
        decay_BTD = flow.project(narrow, self.decay_up).to(compute_dtype(x_BTD)) + self.decay_base
        o_BTHV, memory_BHKV = recur(
            r,
            k,
            v,
            log_decay=self._by_head(-decay_BTD.exp()),
            bonus_HK=self.bonus,
            scale=1.0,
            initial_state_BHKV=None if state is None else state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        normed_BTD = F.group_norm(
            o_BTHV.flatten(0, 1).flatten(-2), self.heads, self.norm_gain, self.norm_bias, self.eps
        ).view_as(x_BTD)
        gated_BTD = normed_BTD * F.silu(flow.project(x["g"], self.g))
        return flow.project(gated_BTD, self.o), WKV6State(x_BTD[:, -1], memory_BHKV)

    def _streams(self, x_BTD: Tensor, earlier_BTD: Tensor, flow: Flow) -> dict[str, Tensor]:
        """What each stream reads: x + (x_{t-1} - x) (mix + what the data says of it)."""
        count = len(STREAMS)
        narrow_BTX = flow.project(torch.lerp(x_BTD, earlier_BTD, self.x_mix), self.mix_down).tanh()
        said_SBTD = flow.project(narrow_BTX.unflatten(-1, (count, -1)).movedim(-2, 0), self.mix_up)
        shares_SBTD = (said_SBTD + self.stream_mix[:, None, None]).to(x_BTD.dtype)
        return dict(zip(STREAMS, torch.lerp(x_BTD, earlier_BTD, shares_SBTD).unbind(0), strict=True))

    def _by_head(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, self.head_dim))
