"""Softmax attention over grouped heads, in parallel and with caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.attention.spec import AttentionPlan
from evo.blocks.base import Block, Position
from evo.blocks.flow import Flow, State
from evo.blocks.norm.rms import rms_norm
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall

QK_NORM_EPS = 1e-6


@dataclass(frozen=True)
class AttentionState(State):
    """Turned keys and values of the positions that later queries may see: all, or the sinks and the latest."""

    keys_BSGK: Tensor
    values_BSGV: Tensor


class Attention(Block):
    """softmax(cap(q k^T / sqrt(K))) v by head, query head h reading key head h // (H / G) (Ainslie et al. 2023)."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    q_bias: nn.Parameter | None
    k_bias: nn.Parameter | None
    v_bias: nn.Parameter | None
    o_bias: nn.Parameter | None
    q_norm: nn.Parameter | None
    k_norm: nn.Parameter | None
    sink_logit: nn.Parameter | None
    position: Position

    def __init__(self, plan: AttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.kv_heads, self.head_dim, self.soft_cap = plan.kv_heads, plan.head_dim, plan.soft_cap
        self.stencil = Stencil(**plan.stencil, causal=plan.causal)
        self.kept = plan.cost.cache_limit
        """How many positions a cache keeps at most, the first of them the stencil's sinks; None for all."""

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, flow)
        o_BTHV = attend(
            q_BTHK,
            k_BTGK,
            v_BTGV,
            stencil=self.stencil,
            segments_BT=flow.segments_BT,
            backend=self.backend,
            **self._parts(q_BTHK),
        )
        return self._out(o_BTHV, flow)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The one attention problem of a parallel pass."""
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, flow)
        return [plan_attention(q_BTHK, k_BTGK, v_BTGV, self.stencil, **self._parts(q_BTHK))]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> AttentionState:
        """No keys, no values."""
        empty = torch.empty(batch, 0, self.kv_heads, self.head_dim, device=device, dtype=dtype)
        return AttentionState(empty, empty)

    def extend(self, x_BTD: Tensor, state: AttentionState, flow: Flow) -> tuple[Tensor, AttentionState]:
        """The next T positions; raises ValueError if queries see their future, which is not there yet."""
        if not self.stencil.causal:
            raise ValueError("attention that is not causal cannot continue a sequence: it sees positions still to come")
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, flow)
        keys, values = _append(state.keys_BSGK, k_BTGK), _append(state.values_BSGV, v_BTGV)
        o_BTHV = attend(
            q_BTHK,
            keys,
            values,
            stencil=self.stencil,
            query_offset=flow.position,
            key_positions_S=self._slots(flow.position, keys),
            backend=self.backend,
            **self._parts(q_BTHK),
        )
        seen = flow.position + x_BTD.shape[1]
        return self._out(o_BTHV, flow), AttentionState(self._keep(keys, seen), self._keep(values, seen))

    def _project(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        q_BTHK = flow.project(x_BTD, self.q, self.q_bias).unflatten(-1, (-1, self.head_dim))
        k_BTGK = flow.project(x_BTD, self.k, self.k_bias).unflatten(-1, (-1, self.head_dim))
        v_BTGV = flow.project(x_BTD, self.v, self.v_bias).unflatten(-1, (-1, self.head_dim))
        q_BTHK, k_BTGK = _norm(q_BTHK, self.q_norm), _norm(k_BTGK, self.k_norm)
        return self.position.rotate_beside(q_BTHK, k_BTGK, v_BTGV, flow.position)

    def _out(self, o_BTHV: Tensor, flow: Flow) -> Tensor:
        return flow.project(o_BTHV.flatten(-2), self.o, self.o_bias)

    def _parts(self, q_BTHK: Tensor) -> dict[str, Any]:
        """What the softmax has besides scores and stencil. The same seed must give the same training, byte for byte."""
        return {
            "repeatable": True,
            "soft_cap": self.soft_cap,
            "sink_logits_H": self.sink_logit,
            "alibi_slopes_H": self.position.slopes_H(q_BTHK),
        }

    def _slots(self, seen: int, keys_BSGK: Tensor) -> Tensor | None:
        """The position of each key, or None where key s stands at s. The cached keys are sinks, a gap, the latest."""
        if self.kept is None or seen <= self.kept:
            return None
        sinks = torch.arange(self.stencil.sinks, device=keys_BSGK.device)
        start = seen - (self.kept - self.stencil.sinks)
        latest = torch.arange(start, start + keys_BSGK.shape[1] - self.stencil.sinks, device=keys_BSGK.device)
        return torch.cat((sinks, latest))

    def _keep(self, x_BSGX: Tensor, seen: int) -> Tensor:
        """What later queries may see of keys or values after `seen` tokens."""
        if self.kept is None or seen <= self.kept:
            return x_BSGX
        sinks = self.stencil.sinks
        latest = x_BSGX.shape[1] - (self.kept - sinks)
        return torch.cat((x_BSGX[:, :sinks], x_BSGX[:, latest:]), dim=1)


def _append(past_BSGX: Tensor, x_BTGX: Tensor) -> Tensor:
    return torch.cat((past_BSGX, x_BTGX), dim=1) if past_BSGX.shape[1] else x_BTGX


def _norm(x_BTHK: Tensor, gain_K: Tensor | None) -> Tensor:
    """RMS norm of each head (Qwen3), if it has a gain."""
    return x_BTHK if gain_K is None else rms_norm(x_BTHK, gain_K, QK_NORM_EPS)
