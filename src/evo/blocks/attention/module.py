"""Softmax attention over grouped heads, in parallel and with caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Mixer, Position, State
from evo.blocks.norm.rms import rms_norm
from evo.dsl.plan import BlockPlan
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import Problem

QK_NORM_EPS = 1e-6


@dataclass(frozen=True)
class AttentionState(State):
    """Turned keys and values of the positions that later queries may see: all, or the sinks and the latest.

    seen: how many tokens have passed, which is the next token's position.
    """

    keys_BSGK: Tensor
    values_BSGV: Tensor
    seen: int


class Attention(Mixer):
    """softmax(cap(q k^T / sqrt(K))) v by head, query head h reading key head h // (H / G) (Ainslie et al. 2023)."""

    optional: ClassVar[tuple[str, ...]] = ("q_bias", "k_bias", "v_bias", "o_bias", "q_norm", "k_norm", "sink_logit")
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

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        settings = plan.settings
        self.kv_heads: int = settings["kv_heads"]
        self.head_dim: int = settings["head_dim"]
        self.soft_cap: float | None = settings["soft_cap"]
        self.stencil = Stencil(**settings["stencil"], causal=settings["causal"])

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, 0)
        return self._read(q_BTHK, k_BTGK, v_BTGV, 0, None)

    def problems(self, x_BTD: Tensor) -> list[Problem]:
        """The one attention problem of a parallel pass."""
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, 0)
        return [plan_attention(q_BTHK, k_BTGK, v_BTGV, self.stencil, **self._parts(q_BTHK))]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> AttentionState:
        """No keys, no values."""
        empty = torch.empty(batch, 0, self.kv_heads, self.head_dim, device=device, dtype=dtype)
        return AttentionState(empty, empty, 0)

    def extend(self, x_BTD: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """The next T positions; raises ValueError if queries see their future, which is not there yet."""
        if not self.stencil.causal:
            raise ValueError("attention that is not causal cannot continue a sequence: it sees positions still to come")
        q_BTHK, k_BTGK, v_BTGV = self._project(x_BTD, state.seen)
        keys, values = _append(state.keys_BSGK, k_BTGK), _append(state.values_BSGV, v_BTGV)
        slots_S = self._slots(state.seen, keys)
        y_BTD = self._read(q_BTHK, keys, values, state.seen, slots_S)
        seen = state.seen + x_BTD.shape[1]
        return y_BTD, AttentionState(self._keep(keys, seen), self._keep(values, seen), seen)

    def _project(self, x_BTD: Tensor, offset: int) -> tuple[Tensor, Tensor, Tensor]:
        q_BTHK = F.linear(x_BTD, self.q, self.q_bias).unflatten(-1, (-1, self.head_dim))
        k_BTGK = F.linear(x_BTD, self.k, self.k_bias).unflatten(-1, (-1, self.head_dim))
        v_BTGV = F.linear(x_BTD, self.v, self.v_bias).unflatten(-1, (-1, self.head_dim))
        q_BTHK, k_BTGK = _norm(q_BTHK, self.q_norm), _norm(k_BTGK, self.k_norm)
        return self.position.rotate_beside(q_BTHK, k_BTGK, v_BTGV, offset)

    def _read(self, q_BTHK: Tensor, k_BSGK: Tensor, v_BSGV: Tensor, offset: int, slots_S: Tensor | None) -> Tensor:
        o_BTHV = attend(
            q_BTHK,
            k_BSGK,
            v_BSGV,
            stencil=self.stencil,
            query_offset=offset,
            key_positions_S=slots_S,
            backend=self.backend,
            **self._parts(q_BTHK),
        )
        return F.linear(o_BTHV.flatten(-2), self.o, self.o_bias)

    def _parts(self, q_BTHK: Tensor) -> dict[str, Any]:
        """What the softmax has besides scores and stencil. The same seed must give the same training, byte for byte."""
        return {
            "repeatable": True,
            "soft_cap": self.soft_cap,
            "sink_logits_H": self.sink_logit,
            "alibi_slopes_H": self.position.slopes_H(q_BTHK),
        }

    def _limit(self) -> int | None:
        """How many positions a cache keeps at most: the sinks, and a window but for the query's own place."""
        return None if self.stencil.size is None else self.stencil.sinks + self.stencil.size - 1

    def _slots(self, seen: int, keys_BSGK: Tensor) -> Tensor | None:
        """The position of each key, or None where key s stands at s. The cached keys are sinks, a gap, the latest."""
        limit = self._limit()
        if limit is None or seen <= limit:
            return None
        sinks = torch.arange(self.stencil.sinks, device=keys_BSGK.device)
        start = seen - (limit - self.stencil.sinks)
        latest = torch.arange(start, start + keys_BSGK.shape[1] - self.stencil.sinks, device=keys_BSGK.device)
        return torch.cat((sinks, latest))

    def _keep(self, x_BSGX: Tensor, seen: int) -> Tensor:
        """What later queries may see of keys or values after `seen` tokens."""
        limit, kept = self._limit(), x_BSGX.shape[1]
        if limit is None or seen <= limit:
            return x_BSGX
        sinks = self.stencil.sinks
        return torch.cat((x_BSGX[:, :sinks], x_BSGX[:, kept - (limit - sinks) :]), dim=1)


def _append(past_BSGX: Tensor, x_BTGX: Tensor) -> Tensor:
    return torch.cat((past_BSGX, x_BTGX), dim=1) if past_BSGX.shape[1] else x_BTGX


def _norm(x_BTHK: Tensor, gain_K: Tensor | None) -> Tensor:
    """RMS norm of each head (Qwen3), if it has a gain."""
    return x_BTHK if gain_K is None else rms_norm(x_BTHK, gain_K, QK_NORM_EPS)
