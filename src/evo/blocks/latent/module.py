"""Latent attention: keys and values made whole in parallel, absorbed into queries and outputs while decoding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.attention.differing import neighbours_differed
from evo.blocks.attention.dropping import dropping
from evo.blocks.attention.kept import latest, require_past, slots
from evo.blocks.base import Block, Norm, Position
from evo.blocks.cache.packers import Vectors, appended, count, picked, unpack
from evo.blocks.cache.policy import SINKS
from evo.blocks.flow import Flow, State
from evo.blocks.latent.spec import LatentPlan
from evo.blocks.select.module import Asked, Select
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True)
class LatentState(State):
    """Narrow vectors and turned shared keys side by side, (B, S, 1, R + K), of what later queries may see."""

    kept_BS1C: Vectors

    def without(self, latest: int, seen: int) -> LatentState | None:
        if count(self.kept_BS1C) < seen:
            return None
        return LatentState(picked(self.kept_BS1C, partial(torch.narrow, dim=1, start=0, length=seen - latest)))


class Latent(Block):
    """softmax(scale q k^T) v with k = [W_uk c | r] and v = W_uv c (DeepSeek-V2, eq. 9 to 19)."""

    q_down: nn.Parameter | None
    q: nn.Parameter
    kv_down: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    q_down_bias: nn.Parameter | None
    kv_down_bias: nn.Parameter | None
    o_bias: nn.Parameter | None
    gate: nn.Parameter | None
    sink_logit: nn.Parameter | None
    less: nn.Parameter | None
    position: Position
    kv_norm: Norm

    def __init__(self, plan: LatentPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.kv_heads = plan.heads, plan.kv_heads
        self.nope_dim, self.rope_dim = plan.nope_dim, plan.rope_dim
        self.kv_rank, self.value_dim, self.scale = plan.kv_rank, plan.value_dim, plan.scale
        self.stencil = Stencil(**plan.stencil)
        self.read_at_once = self.stencil.together
        self.kept = plan.cost.cache_limit
        self.q_from_both, self.gate_from_q = plan.q_from_both, plan.gate_from_q

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        made_of, gate, q_BTHK, k_BTGK, v_BTGV = self._whole(x_BTD, flow)
        parts = {**self._parts(q_BTHK), "scale": self.scale}
        run = partial(dropping(flow), segments_BT=flow.segments_BT, backend=self.backend, **parts)
        o_BTHV = self._attended(x_BTD, made_of, q_BTHK, k_BTGK, v_BTGV, flow, run)
        return self._out(o_BTHV, x_BTD, gate, flow)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The one attention problem of a parallel pass."""
        made_of, _, q_BTHK, k_BTGK, v_BTGV = self._whole(x_BTD, flow)
        run = partial(plan_attention, **self._parts(q_BTHK))
        return [self._attended(x_BTD, made_of, q_BTHK, k_BTGK, v_BTGV, flow, run)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> LatentState:
        """Nothing kept."""
        return LatentState(torch.empty(batch, 0, 1, self.kv_rank + self.rope_dim, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: LatentState, flow: Flow) -> tuple[Tensor, LatentState]:
        """The next T positions, without making keys or values of any; raises ValueError inside a prefix."""
        require_past(self.stencil, flow.position + x_BTD.shape[1])
        made_of, gate, nope_BTHK, rope_BTHK, c_BTR, r_BT1K = self._narrow(x_BTD, flow)
        new_BT1C = torch.cat((c_BTR[:, :, None], r_BT1K), dim=-1)
        kept_BS1C = torch.cat((unpack(state.kept_BS1C), new_BT1C), dim=1)
        up_HRK = self._of_heads("k", self.nope_dim).transpose(1, 2)
        q_BTHR = flow.project(nope_BTHK.movedim(2, 0), up_HRK).movedim(0, 2)
        limit, sinks = self._limits(flow)
        run = partial(
            attend,
            scale=self.scale,
            query_offset=flow.position,
            key_positions_S=slots(kept_BS1C, flow.position, limit, sinks),
            backend=self.backend,
            **self._parts(rope_BTHK),
        )
        q_BTHC = torch.cat((q_BTHR, rope_BTHK), dim=-1)
        o_BTHR = self._attended(x_BTD, made_of, q_BTHC, kept_BS1C, kept_BS1C[..., : self.kv_rank], flow, run)
        down_HVR = self._of_heads("v", self.value_dim)
        o_BTHV = flow.project(o_BTHR.movedim(2, 0), down_HVR).movedim(0, 2)
        y_BTD = self._out(o_BTHV, x_BTD, gate, flow)
        kept = appended(state.kept_BS1C, new_BT1C, flow.cache.store)
        keep = partial(latest, seen=flow.position + x_BTD.shape[1], limit=limit, sinks=sinks)
        return y_BTD, LatentState(picked(kept, keep))

    def _of_heads(self, name: str, dim: int) -> Tensor:
        """The map that each query head meets, (H, K or V, R)."""
        found_GXR = self.with_adapter(name).unflatten(0, (self.kv_heads, dim))
        return found_GXR.repeat_interleave(self.heads // self.kv_heads, dim=0)

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, gate: Tensor | None, flow: Flow) -> Tensor:
        """What heads see, some taken from others, gated and mapped, (B, T, H, V) -> (B, T, D)."""
        if self.less is not None:
            o_BTHV = neighbours_differed(o_BTHV, flow.project(x_BTD, self.less))
        if gate is not None:
            o_BTHV = o_BTHV * gate.sigmoid().unflatten(-1, (o_BTHV.shape[2], -1))
        return flow.project(o_BTHV.flatten(-2), self.o, self.o_bias)

    def _attended(
        self, x_BTD: Tensor, made_of: Tensor, q: Tensor, k: Tensor, v: Tensor, flow: Flow, run: Callable[..., Any]
    ) -> Any:
        """What `run` makes of all keys that the stencil shows, or of those that a selection leaves."""
        select = self._modules.get("select")
        if not isinstance(select, Select):
            return run(q, k, v, stencil=self.stencil)
        return select.attended(Asked(x_BTD, made_of, q, k, v, run, self.scale), self.stencil, flow)

    def _narrow(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """The normed vector of queries, gates, queries without and with position, narrow vectors, shared keys."""
        normed, made_of = x_BTD, x_BTD
        if self.q_down is not None:
            down = flow.project(x_BTD, self.q_down, self.q_down_bias)
            normed = self.child("q_norm")(down, flow)
            made_of = torch.cat((normed, down), dim=-1) if self.q_from_both else normed
        q_BTHK = flow.project(made_of, self.q).unflatten(-1, (self.heads, -1))
        gate = None if self.gate is None else flow.project(made_of if self.gate_from_q else x_BTD, self.gate)
        nope_BTHK, rope_BTHK = q_BTHK.split((self.nope_dim, self.rope_dim), dim=-1)
        both = flow.project(x_BTD, self.kv_down, self.kv_down_bias)
        c_BTR, r_BTK = both.split((self.kv_rank, self.rope_dim), dim=-1)
        norm = self._modules.get("rope_norm")
        r_BTK = norm(r_BTK, flow) if isinstance(norm, Norm) else r_BTK
        rope_BTHK, r_BT1K = self.position.rotate(rope_BTHK, r_BTK[:, :, None], flow.position)
        return normed, gate, nope_BTHK, rope_BTHK, self.kv_norm(c_BTR, flow), r_BT1K

    def _whole(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        """What queries are made of; gates; queries of every head, keys and values of every key head."""
        made_of, gate, nope_BTHK, rope_BTHK, c_BTR, r_BT1K = self._narrow(x_BTD, flow)
        k_BTGK = flow.project(c_BTR, self.k).unflatten(-1, (self.kv_heads, -1))
        v_BTGV = flow.project(c_BTR, self.v).unflatten(-1, (self.kv_heads, -1))
        shared_BTGK = r_BT1K.expand(-1, -1, self.kv_heads, -1).to(k_BTGK.dtype)
        q_BTHK = torch.cat((nope_BTHK, rope_BTHK), dim=-1)
        return made_of, gate, q_BTHK, torch.cat((k_BTGK, shared_BTGK), dim=-1), v_BTGV

    def _parts(self, like: Tensor) -> dict[str, Any]:
        return {
            "repeatable": True,
            "sink_logits_H": self.sink_logit,
            "alibi_slopes_H": self.position.slopes_H(like),
        }

    def _limits(self, flow: Flow) -> tuple[int | None, int]:
        """How many positions are kept at most, and how many of these are the first ones."""
        if self.kept is not None or "select" in self._modules:
            return self.kept, self.stencil.sinks
        return flow.cache.limit, SINKS
