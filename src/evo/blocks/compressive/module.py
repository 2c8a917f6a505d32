"""Attention beside a compressive memory as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Position, compute_dtype, in_own_precision
from evo.blocks.compressive.spec import CompressivePlan
from evo.blocks.flow import Flow, State
from evo.kernels.attention import Stencil, attend
from evo.kernels.attention import plan as plan_attention
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import apart

SUM_EPS = 1e-6
"""Added to the sum of weights of a memory, which holds nothing at first."""
OWN = Stencil("full", causal=True)


@dataclass(frozen=True)
class CompressiveState(State):
    """seen: tokens so far. memory: of whole segments, (B, G, K, V), and the sum of their features, (B, G, K), float32
    or wider. keys, values: those of the latest tokens before they turn, fewer than a segment has, (B, S, G, K)."""

    seen: int
    memory_BGKV: Tensor
    sum_BGK: Tensor
    keys_BSGK: Tensor
    values_BSGV: Tensor


class Compressive(Block):
    """o(g A_memory + (1 - g) A_segment) (Munkhdalai et al. 2404.07143, section 2)."""

    in_torch = ("compressive memory",)

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    blend: nn.Parameter
    position: Position

    def __init__(self, plan: CompressivePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D). Segments of packed documents begin with each of them."""
        if flow.segments_BT is not None:
            alone = replace(flow, segments_BT=None)
            return apart(lambda x_1ND: self.forward(x_1ND, alone), x_BTD, flow.segments_BT)
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The attention of one segment."""
        q, k, v = (x[:, : self.plan.segment] for x in self._heads(x_BTD, flow))
        return [plan_attention(q, k, v, OWN, repeatable=True)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> CompressiveState:
        """Nothing is remembered."""
        groups, dim, kept = self.plan.kv_heads, self.plan.head_dim, torch.promote_types(dtype, torch.float32)
        memory_BGKV = torch.zeros(batch, groups, dim, dim, device=device, dtype=kept)
        none_B0GK = torch.zeros(batch, 0, groups, dim, device=device, dtype=dtype)
        return CompressiveState(0, memory_BGKV, memory_BGKV[..., 0], none_B0GK, none_B0GK)

    def extend(self, x_BTD: Tensor, state: CompressiveState, flow: Flow) -> tuple[Tensor, CompressiveState]:
        """The next T positions, segment by segment."""
        q_BTHK, k_BTGK, v_BTGV = self._heads(x_BTD, flow)
        size, found = self.plan.segment, list[Tensor]()
        while q_BTHK.shape[1]:
            take = size - state.seen % size
            (q, q_BTHK), (k, k_BTGK), (v, v_BTGV) = ((y[:, :take], y[:, take:]) for y in (q_BTHK, k_BTGK, v_BTGV))
            o_BNHV, state = self._segment(q, k, v, state)
            found.append(o_BNHV)
        return flow.project(torch.cat(found, dim=1).flatten(-2), self.o), state

    def _heads(self, x_BTD: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values before they turn."""
        q, k, v = (flow.project(x_BTD, w).unflatten(-1, (-1, self.plan.head_dim)) for w in (self.q, self.k, self.v))
        return q, k, v

    def _segment(
        self, q_BNHK: Tensor, k_BNGK: Tensor, v_BNGV: Tensor, state: CompressiveState
    ) -> tuple[Tensor, CompressiveState]:
        """What N tokens of one segment read, and what is kept behind them."""
        size, at = self.plan.segment, state.seen % self.plan.segment
        past = state.keys_BSGK.shape[1]
        keys, values = (torch.cat(pair, dim=1) for pair in ((state.keys_BSGK, k_BNGK), (state.values_BSGV, v_BNGV)))
        own_k, own_v, seen = keys[:, past - at :], values[:, past - at :], state.seen + q_BNHK.shape[1]
        turned_q, _ = self.position.rotate(q_BNHK, k_BNGK, state.seen)
        turned_k = self.position.rotate(own_k, own_k, state.seen - at)[1]
        local_BNHV = attend(
            turned_q, turned_k, own_v, stencil=OWN, query_offset=at, repeatable=True, backend=self.backend
        )
        gate_H1 = self.blend.to(compute_dtype(q_BNHK)).sigmoid()[:, None]
        with in_own_precision(q_BNHK.device):
            memory_BNHV = _recalled(q_BNHK, state)
            if seen % size == 0:
                state = _remembering(own_k, own_v, state, self.plan.update)
        o_BNHV = gate_H1 * memory_BNHV + (1.0 - gate_H1) * local_BNHV.to(gate_H1.dtype)
        first = max(0, keys.shape[1] - (size - 1))
        kept = replace(state, seen=seen, keys_BSGK=keys[:, first:], values_BSGV=values[:, first:])
        return o_BNHV.to(q_BNHK.dtype), kept


def _features(x_BNHK: Tensor, groups: int) -> Tensor:
    """elu(x) + 1 by the heads of a memory, (B, G, R N, K): its R heads one after another."""
    wide = F.elu(x_BNHK.to(compute_dtype(x_BNHK))) + 1.0
    return wide.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)


def _read(features_BGXK: Tensor, state: CompressiveState) -> Tensor:
    """f M / (f z), (B, G, X, V)."""
    return features_BGXK @ state.memory_BGKV / (features_BGXK @ state.sum_BGK[..., None] + SUM_EPS)


def _recalled(q_BNHK: Tensor, state: CompressiveState) -> Tensor:
    """What queries find in the memory of earlier segments, (B, N, H, V) (eq. 3)."""
    tokens = q_BNHK.shape[1]
    read_BGXV = _read(_features(q_BNHK, state.memory_BGKV.shape[1]), state)
    return read_BGXV.unflatten(2, (-1, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3)


def _remembering(k_BNGK: Tensor, v_BNGV: Tensor, state: CompressiveState, update: str) -> CompressiveState:
    """The memory with a whole segment (eqs. 4 and 5)."""
    f_BGNK = _features(k_BNGK, k_BNGK.shape[2])
    v_BGNV = v_BNGV.to(f_BGNK.dtype).transpose(1, 2)
    if update == "delta":
        v_BGNV = v_BGNV - _read(f_BGNK, state)
    memory_BGKV = state.memory_BGKV + f_BGNK.mT @ v_BGNV
    return replace(state, memory_BGKV=memory_BGKV, sum_BGK=state.sum_BGK + f_BGNK.sum(2))
