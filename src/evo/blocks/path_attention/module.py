"""PaTH attention as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.attention.forgetting import summed
from evo.blocks.base import Block, compute_dtype, in_own_precision
from evo.blocks.flow import Flow, State
from evo.blocks.path_attention.spec import PathAttentionPlan
from evo.kernels.attention.reflected import TABLE, Keys
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall, choose
from evo.kernels.documents import document_starts
from evo.kernels.plain import plain_call

UNIT_EPS = 1e-6


@dataclass(frozen=True)
class PathAttentionState(State):
    """Keys as the last query sees them and values, (B, S, G, K), float32 or wider; the sums of the logs of forget
    gates, (B, S, H); the latest inputs of the taps, (B, W - 1, C)."""

    keys_BSGK: Tensor
    values_BSGK: Tensor
    forgot_BSH: Tensor | None
    past_BWC: Tensor | None


class PathAttention(Block):
    """o(softmax(k_s H_{s+1} ... H_t q_t) v)."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    beta: nn.Parameter
    beta_bias: nn.Parameter
    w: nn.Parameter | None
    w_down: nn.Parameter | None
    w_up: nn.Parameter | None
    w_taps: nn.Parameter | None
    forget_gate: nn.Parameter | None
    forget_gate_bias: nn.Parameter | None

    def __init__(self, plan: PathAttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution and the attention of a parallel pass."""
        attention = plain_call(TABLE, x_BTD)
        if self.w_taps is None:
            return [attention]
        return [plan_convolution(self._narrow(x_BTD, flow), self.w_taps, activation="silu"), attention]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> PathAttentionState:
        """No keys."""
        plan, kept = self.plan, torch.promote_types(dtype, torch.float32)
        none_B0GK = torch.zeros(batch, 0, plan.kv_heads, plan.head_dim, device=device, dtype=kept)
        forgot, past = None, None
        if self.forget_gate is not None:
            forgot = torch.zeros(batch, 0, plan.heads, device=device, dtype=kept)
        if self.w_taps is not None:
            past = torch.zeros(batch, plan.conv - 1, self.w_taps.shape[0], device=device, dtype=dtype)
        return PathAttentionState(none_B0GK, none_B0GK, forgot, past)

    def extend(self, x_BTD: Tensor, state: PathAttentionState, flow: Flow) -> tuple[Tensor, PathAttentionState]:
        """The next T positions."""
        plan, before, compute = self.plan, state.keys_BSGK.shape[1], compute_dtype(x_BTD)
        w_BTGK, past = self._directions(x_BTD, state.past_BWC, flow)
        beta_BTG = plan.beta_range * flow.project(x_BTD, self.beta, self.beta_bias).to(compute).sigmoid()
        q_BTHK, k_BTGK = (self._normed(name, flow.project(x_BTD, getattr(self, name)), flow) for name in "qk")
        v_BTGK = flow.project(x_BTD, self.v).unflatten(-1, (-1, plan.head_dim))
        forgot_BSH = None
        if self.forget_gate is not None:
            forgot_BSH = summed(flow.project(x_BTD, self.forget_gate, self.forget_gate_bias), state.forgot_BSH)
        documents_BS = self._documents(x_BTD, before, flow)
        values_BSGK = torch.cat((state.values_BSGK, v_BTGK.to(compute)), dim=1)
        keys = Keys(state.keys_BSGK, values_BSGK, forgot_BSH, documents_BS)
        run = choose(TABLE, plain_call(TABLE, x_BTD), self.backend).backend.run
        with in_own_precision(x_BTD.device):
            parts = (x.to(compute) for x in (q_BTHK, k_BTGK, w_BTGK, beta_BTG))
            o_BTHK, keys_BSGK = run(*parts, keys, plan.scale)
        after = PathAttentionState(keys_BSGK, values_BSGK, forgot_BSH, past)
        return flow.project(o_BTHK.to(x_BTD.dtype).flatten(-2), self.o), after

    def _narrow(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        if self.w is not None:
            return flow.project(x_BTD, self.w)
        assert self.w_down is not None
        assert self.w_up is not None
        return flow.project(flow.project(x_BTD, self.w_down), self.w_up)

    def _directions(self, x_BTD: Tensor, past: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor | None]:
        """The unit vectors w, (B, T, G, K), in float32 or wider, and the taps' new past."""
        w_BTC = self._narrow(x_BTD, flow)
        if self.w_taps is not None:
            w_BTC, past = short_convolution(
                w_BTC,
                self.w_taps,
                activation="silu",
                state_BWD=past,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
        w_BTGK = w_BTC.to(compute_dtype(x_BTD)).unflatten(-1, (-1, self.plan.head_dim))
        return w_BTGK * torch.rsqrt(w_BTGK.square().sum(-1, keepdim=True) + UNIT_EPS), past

    def _normed(self, name: str, x_BTC: Tensor, flow: Flow) -> Tensor:
        x_BTHK = x_BTC.unflatten(-1, (-1, self.plan.head_dim))
        return self.child(f"{name}_norm")(x_BTHK, flow) if f"{name}_norm" in self._modules else x_BTHK

    @staticmethod
    def _documents(x_BTD: Tensor, before: int, flow: Flow) -> Tensor | None:
        """Which document each position is of, (B, S + T); earlier ones are of the first."""
        if flow.segments_BT is None:
            return None
        later_BT = document_starts(flow.segments_BT).cumsum(1)
        return torch.cat((later_BT.new_zeros(later_BT.shape[0], before), later_BT), dim=1)
