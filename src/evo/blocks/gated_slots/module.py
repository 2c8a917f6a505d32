"""Gated slots as a mixer; equations in README.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.gated_slots.spec import GatedSlotsPlan
from evo.kernels.dispatch import KernelCall, choose
from evo.kernels.documents import document_starts
from evo.kernels.plain import plain_call
from evo.kernels.recurrence import plan as plan_recurrence
from evo.kernels.recurrence import recur
from evo.kernels.recurrence.by_value import TABLE

ACTS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "silu": F.silu, "relu": F.relu}
EMPTY = -1e4
"""The log of what a softmax over no token sums to: so little that the first one is all of it."""
BORDER = 1e3
"""By how much logits rise where a document begins, so that nothing before it counts."""


@dataclass(frozen=True)
class GatedSlotsState(State):
    """Keys of slots (B, H, K, M) and values (B, H, M, V), float32 or wider; z of write: softmax, (B, H, M)."""

    keys_BHKM: Tensor
    values_BHMV: Tensor
    log_sum_BHM: Tensor | None


class GatedSlots(Block):
    """o(norm(act(V^T softmax(K q))))."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    slot: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: GatedSlotsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The two recurrences of a parallel pass."""
        plan, (B, T, _) = self.plan, x_BTD.shape
        share_BTHM = x_BTD.new_empty(B, T, plan.heads, plan.slots)
        v_BTHV = x_BTD.new_empty(B, T, plan.heads, plan.value_dim)
        return [plain_call(TABLE, x_BTD), plan_recurrence(share_BTHM, share_BTHM, v_BTHV, log_decay=share_BTHM)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> GatedSlotsState:
        """Empty slots."""
        plan, kept = self.plan, torch.promote_types(dtype, torch.float32)
        keys = torch.zeros(batch, plan.kv_heads, plan.key_dim, plan.slots, device=device, dtype=kept)
        values = torch.zeros(batch, plan.kv_heads, plan.slots, plan.value_dim, device=device, dtype=kept)
        if plan.write == "forget":
            return GatedSlotsState(keys, values, None)
        empty = torch.full((batch, plan.kv_heads, plan.slots), EMPTY, device=device, dtype=kept)
        return GatedSlotsState(keys, values, empty)

    def extend(self, x_BTD: Tensor, state: GatedSlotsState, flow: Flow) -> tuple[Tensor, GatedSlotsState]:
        """The next T positions."""
        plan, repeats = self.plan, self.plan.heads // self.plan.kv_heads
        q_BTHK, k_BTGK, v_BTGV = (
            ACTS[plan.act](flow.project(x_BTD, weight).unflatten(-1, (-1, dim)))
            for weight, dim in ((self.q, plan.key_dim), (self.k, plan.key_dim), (self.v, plan.value_dim))
        )
        share_BTGM, log_decay_BTGM, log_sum_BGM = self._shares(x_BTD, state.log_sum_BHM, flow)
        k, v, share, log_decay, keys, values = (
            x if repeats == 1 else x.repeat_interleave(repeats, dim=dim)
            for x, dim in (
                *((x, 2) for x in (k_BTGK, v_BTGV, share_BTGM, log_decay_BTGM)),
                (state.keys_BHKM, 1),
                (state.values_BHMV, 1),
            )
        )
        recur_by_value = choose(TABLE, plain_call(TABLE, x_BTD), self.backend).backend.run
        scores_BTHM, keys = recur_by_value(
            q_BTHK * plan.scale, k, share, log_decay, initial_state_BHKV=keys, segments_BT=flow.segments_BT
        )
        o_BTHV, values = recur(
            scores_BTHM.softmax(-1),
            share,
            v,
            log_decay=log_decay,
            scale=1.0,
            initial_state_BHKV=values,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        after = GatedSlotsState(keys[:, ::repeats], values[:, ::repeats], log_sum_BGM)
        o_BTHV = ACTS[plan.out_act](o_BTHV.to(x_BTD.dtype))
        if "norm" in self._modules:
            o_BTHV = self.child("norm")(o_BTHV, flow)
        return flow.project(o_BTHV.flatten(-2), self.o), after

    def _shares(self, x_BTD: Tensor, before_BGM: Tensor | None, flow: Flow) -> tuple[Tensor, Tensor, Tensor | None]:
        """What each slot takes of a token, the log of what it keeps, (B, T, G, M), and z after the last."""
        plan = self.plan
        logit_BTGM = flow.project(x_BTD, self.slot).to(compute_dtype(x_BTD)).unflatten(-1, (plan.kv_heads, -1))
        if before_BGM is None:
            log_decay_BTGM = F.logsigmoid(logit_BTGM) / plan.temperature
            return -log_decay_BTGM.expm1(), log_decay_BTGM, None
        sums_BTGM = _log_sums(logit_BTGM, before_BGM, flow.segments_BT)
        earlier_BTGM = torch.cat((before_BGM[:, None].to(sums_BTGM.dtype), sums_BTGM[:, :-1]), dim=1)
        log_decay_BTGM = earlier_BTGM - sums_BTGM
        if flow.segments_BT is not None:  # where nothing is kept anyway
            starts_BT11 = document_starts(flow.segments_BT)[..., None, None]
            log_decay_BTGM = log_decay_BTGM.masked_fill(starts_BT11, 0.0)
        return (logit_BTGM - sums_BTGM).exp(), log_decay_BTGM, sums_BTGM[:, -1]


def _log_sums(logit_BTGM: Tensor, before_BGM: Tensor, segments_BT: Tensor | None) -> Tensor:
    """log of the sum of exp(logit) over the tokens of a document so far, and of what came before the first one."""
    if segments_BT is None:
        rows = torch.cat((before_BGM[:, None].to(logit_BTGM.dtype), logit_BTGM), dim=1)
        return rows.logcumsumexp(1)[:, 1:]
    risen_BT11 = BORDER * document_starts(segments_BT).cumsum(1).double()[..., None, None]
    rows = torch.cat((before_BGM[:, None].double(), logit_BTGM.double() + risen_BT11), dim=1)
    return (rows.logcumsumexp(1)[:, 1:] - risen_BT11).to(logit_BTGM.dtype)
