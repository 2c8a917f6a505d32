"""Gated attention units as mixers; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.attention.kept import append_tokens, latest, slots
from evo.blocks.attention.state import AttentionState
from evo.blocks.base import Block, Position
from evo.blocks.cache.packers import unpack
from evo.blocks.cache.policy import SINKS
from evo.blocks.flow import Flow
from evo.blocks.gated_attention.spec import GatedAttentionPlan
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS


class GatedAttention(Block):
    """o(act(gate x') * A v), A of queries and keys that one vector makes (Hua et al. 2202.10447, section 2)."""

    z: nn.Parameter
    v: nn.Parameter
    gate: nn.Parameter
    q_gain: nn.Parameter
    q_shift: nn.Parameter
    k_gain: nn.Parameter
    k_shift: nn.Parameter | None
    o: nn.Parameter
    candidate: nn.Parameter | None
    candidate_bias: nn.Parameter | None
    step: nn.Parameter | None
    step_bias: nn.Parameter | None
    position: Position

    def __init__(self, plan: GatedAttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.act, self.stencil = plan, ACTS[plan.act], Stencil(**plan.stencil, causal=True)

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        read_BTD = self._read(x_BTD, flow)
        q_BT1K, k_BT1K, v_BT1V = self._heads(x_BTD, read_BTD, flow)
        o_BT1V = attend(q_BT1K, k_BT1K, v_BT1V, segments_BT=flow.segments_BT, backend=self.backend, **self._parts())
        return self._out(o_BT1V, x_BTD, read_BTD, flow)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The scan of averages, if there are any, and the attention of a parallel pass."""
        average = self._modules.get("average")
        found = average.problems(x_BTD, flow) if isinstance(average, Block) else []
        parts = self._parts()
        return [*found, plan_attention(*self._heads(x_BTD, x_BTD, flow), parts["stencil"], weigh=parts["weigh"])]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> AttentionState:
        """No keys, no values."""
        empty = torch.empty(batch, 0, 1, self.plan.dim + self.plan.inner, device=device, dtype=dtype)
        keys, values = empty.split([self.plan.dim, self.plan.inner], dim=-1)
        return AttentionState(keys, values)

    def extend(self, x_BTD: Tensor, state: AttentionState, flow: Flow) -> tuple[Tensor, AttentionState]:
        """The next T positions."""
        read_BTD = self._read(x_BTD, flow)
        q_BT1K, k_BT1K, v_BT1V = self._heads(x_BTD, read_BTD, flow)
        assert state.values_BSGV is not None
        keys, values = (
            append_tokens(unpack(past), new) for past, new in ((state.keys_BSGK, k_BT1K), (state.values_BSGV, v_BT1V))
        )
        own = self.plan.cost.cache_limit
        limit, sinks = (flow.cache.limit, SINKS) if own is None else (own, self.stencil.sinks)
        o_BT1V = attend(
            q_BT1K,
            keys,
            values,
            query_offset=flow.position,
            key_positions_S=slots(keys, flow.position, limit, sinks),
            backend=self.backend,
            **self._parts(),
        )
        keep = partial(latest, seen=flow.position + x_BTD.shape[1], limit=limit, sinks=sinks)
        kept = state.appended(k_BT1K, v_BT1V, flow.cache.store).kept(keep)
        return self._out(o_BT1V, x_BTD, read_BTD, flow), AttentionState(*kept)

    def _parts(self) -> dict[str, Any]:
        plan = self.plan
        return {"stencil": self.stencil, "scale": plan.scale, "weigh": plan.weigh, "repeatable": True}

    def _read(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """What queries, keys, gate and step are made of."""
        average = self._modules.get("average")
        return flow.run(average, x_BTD) if isinstance(average, Block) else x_BTD

    def _heads(self, x_BTD: Tensor, read_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, turned, and values, of the one head."""
        z_BTK = self.act(flow.project(read_BTD, self.z))
        q_BTK = z_BTK * self.q_gain.to(z_BTK.dtype) + self.q_shift.to(z_BTK.dtype)
        k_BTK = z_BTK * self.k_gain.to(z_BTK.dtype)
        if self.k_shift is not None:
            k_BTK = k_BTK + self.k_shift.to(z_BTK.dtype)
        v_BT1V = self.act(flow.project(x_BTD, self.v))[:, :, None]
        return *self.position.rotate(q_BTK[:, :, None], k_BTK[:, :, None], flow.position), v_BT1V

    def _out(self, o_BT1V: Tensor, x_BTD: Tensor, read_BTD: Tensor, flow: Flow) -> Tensor:
        o_BTV = o_BT1V[:, :, 0]
        if self.plan.share is not None:
            o_BTV = o_BTV * self.plan.share
        y_BTD = flow.project(self.act(flow.project(read_BTD, self.gate)) * o_BTV, self.o)
        if self.candidate is None or self.step is None:
            return y_BTD
        h_BTD = self.act(flow.project(read_BTD, self.candidate, self.candidate_bias) + y_BTD)
        return flow.project(read_BTD, self.step, self.step_bias).sigmoid() * (h_BTD - x_BTD)
