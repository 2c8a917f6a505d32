"""Entries beside tokens in one softmax, all of them or those that an index chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.index import Index
from evo.blocks.select.module import Asked, ByIndex, Select, best, divergence
from evo.blocks.select.pooled.spec import EntryIndexPlan, PooledPlan
from evo.kernels.attention import Stencil
from evo.kernels.attention.reference import positions, visible


class EntryIndex(Index):
    """sum_h w_h relu(q_h k) / sqrt(H K) of each whole block's small entry k, or the same sum without weights."""

    def __init__(self, plan: EntryIndexPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.size = plan.size

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Scores in float32, or float64: (B, T, D + R) -> (B, 1, T, C), minus infinity where a query meets none."""
        entries_BCK = flow.run(self.child("entries"), x_BTD[..., : x_BTD.shape[-1] - self.narrow])
        return self._scores(x_BTD, entries_BCK, met(x_BTD, entries_BCK.shape[1], self.size, flow), flow)


@dataclass(frozen=True)
class Both:
    """Tokens, as a stencil shows them, and entries with these keys, side by side in one softmax."""

    asked: Asked
    stencil: Any
    keys_BCGK: Tensor
    flow: Flow

    def attended(self, values_BSGV: Tensor, entries_BCGV: Tensor, seen: Tensor) -> Any:
        """What attention makes of values of tokens, and of those of the entries that are seen, (1 or B, 1, T, C)."""
        asked, segments = self.asked, self.flow.segments_BT
        batch, queries, tokens = *asked.q_BTHK.shape[:2], asked.keys_BSGK.shape[1]
        places = positions(queries, tokens, self.flow.position, asked.slots_S, asked.q_BTHK.device)
        shown = visible(self.stencil, *places, None if segments is None else (segments, segments))
        both = torch.cat((shown.expand(batch, 1, -1, -1), seen.expand(batch, 1, -1, -1)), dim=-1)
        bias = torch.zeros_like(both, dtype=asked.q_BTHK.dtype).masked_fill(~both, -torch.inf)
        keys, values = torch.cat((asked.keys_BSGK, self.keys_BCGK), 1), torch.cat((values_BSGV, entries_BCGV), 1)
        said: dict[str, Any] = {} if asked.slots_S is None else {"key_positions_S": None}  # the bias says it all
        said |= {} if segments is None else {"segments_BT": None}
        return asked.attend(asked.q_BTHK, keys, values, stencil=Stencil(causal=False), bias_HTS=bias, **said)

    @torch.no_grad()
    def mass(self, chosen: Tensor) -> Tensor:
        """Where the heads attend among the chosen entries, averaged, 1 in all, (B, 1, T, C): by unit vectors."""
        entries, groups = self.keys_BCGK.shape[1:3]
        units_C1C = torch.eye(entries, device=chosen.device, dtype=self.keys_BCGK.dtype)[:, None]
        units_BCGC = units_C1C.expand(self.keys_BCGK.shape[0], -1, groups, -1)
        nothing = units_C1C.new_zeros(*self.asked.keys_BSGK.shape[:3], entries)
        mass_B1TC = self.attended(nothing, units_BCGC, chosen).mean(2)[:, None]
        return mass_B1TC / mass_B1TC.sum(-1, keepdim=True).clamp_min(torch.finfo(mass_B1TC.dtype).tiny)


class Pooled(Select):
    """softmax over the keys that the stencil shows and over entries of whole blocks (DeepSeek-V4)."""

    def __init__(self, plan: PooledPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        entries_BCX = flow.run(self.child("entries"), self._made_of(asked))
        width = self.plan.groups * self.plan.key_dim
        keys_BCGK = entries_BCX[..., :width].unflatten(-1, (self.plan.groups, -1))
        values_BCGV = keys_BCGK
        if self.plan.has_values:
            values_BCGV = entries_BCX[..., width:].unflatten(-1, (self.plan.groups, -1))
        both = Both(asked, stencil, keys_BCGK, flow)
        if not self.plan.top:
            seen = met(asked.x_BTD, entries_BCX.shape[1], self.plan.size, flow)
            return both.attended(asked.values_BSGV, values_BCGV, seen)
        scores_B1TC = flow.run(self.child("index"), asked.index_input())
        chosen = best(scores_B1TC.detach(), self.plan.top) & (scores_B1TC > -torch.inf)
        if torch.is_grad_enabled() and flow.states is None and not asked.q_BTHK.is_meta:
            flow.add_loss("align", divergence(scores_B1TC, chosen, both.mass(chosen)), self.plan.align)
        return both.attended(asked.values_BSGV, values_BCGV, chosen)

    def _made_of(self, asked: Asked) -> Tensor:
        """The stream, and behind it the new keys and values, where these are pooled."""
        if self.plan.is_own:
            return asked.x_BTD
        new = asked.x_BTD.shape[1]
        given = (asked.keys_BSGK, asked.values_BSGV) if self.plan.has_values else (asked.keys_BSGK,)
        return torch.cat((asked.x_BTD, *(x[:, x.shape[1] - new :].flatten(-2) for x in given)), dim=-1)


class WholeBlocks(ByIndex):
    """The tokens of the best whole blocks, and those behind the last whole block (Qwen4-Exp)."""

    def _scores(self, asked: Asked, flow: Flow) -> Tensor:
        return flow.run(self.child("index"), asked.index_input())

    def _seen(self, chosen_BGTS: Tensor, flow: Flow) -> Tensor:
        queries, keys = chosen_BGTS.shape[-2:]
        places_S = torch.arange(keys, device=chosen_BGTS.device)
        counts_T1 = flow.position + 1 + torch.arange(queries, device=chosen_BGTS.device)[:, None]
        return chosen_BGTS | (places_S >= counts_T1 // self.plan.size * self.plan.size)


def met(x_BTD: Tensor, entries: int, size: int, flow: Flow) -> Tensor:
    """Which entries each query meets: of whole blocks so far, of its document, (1 or B, 1, T, C) bool."""
    query_T1 = flow.position + torch.arange(x_BTD.shape[1], device=x_BTD.device)[:, None]
    ends_C = (torch.arange(entries, device=x_BTD.device) + 1) * size - 1
    seen_TC = ends_C <= query_T1
    if flow.segments_BT is None:
        return seen_TC[None, None]
    of_BC = flow.segments_BT[:, ends_C.clamp_max(x_BTD.shape[1] - 1)]
    return (seen_TC & (flow.segments_BT[..., None] == of_BC[:, None]))[:, None]
