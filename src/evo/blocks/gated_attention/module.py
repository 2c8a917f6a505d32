"""Gated attention units as mixers; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Position
from evo.blocks.flow import Flow, State
from evo.blocks.gated_attention.spec import GatedAttentionPlan
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS


@dataclass(frozen=True)
class GatedAttentionState(State):
    """Keys (B, S, 1, K) and values (B, S, 1, V) so far."""

    keys_BS1K: Tensor
    values_BS1V: Tensor


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

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> GatedAttentionState:
        """No keys, no values."""
        sizes = self.plan.dim, self.plan.inner
        return GatedAttentionState(*(torch.empty(batch, 0, 1, size, device=device, dtype=dtype) for size in sizes))

    def extend(self, x_BTD: Tensor, state: GatedAttentionState, flow: Flow) -> tuple[Tensor, GatedAttentionState]:
        """The next T positions."""
        read_BTD = self._read(x_BTD, flow)
        q_BT1K, k_BT1K, v_BT1V = self._heads(x_BTD, read_BTD, flow)
        pairs = ((state.keys_BS1K, k_BT1K), (state.values_BS1V, v_BT1V))
        keys, values = (torch.cat(pair, dim=1) for pair in pairs)
        o_BT1V = attend(q_BT1K, keys, values, query_offset=flow.position, backend=self.backend, **self._parts())
        return self._out(o_BT1V, x_BTD, read_BTD, flow), GatedAttentionState(keys, values)

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
