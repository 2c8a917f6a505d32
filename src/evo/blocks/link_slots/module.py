"""Link slots; equations in README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.link_slots.spec import LinkSlotsPlan
from evo.kernels.documents import document_numbers


@dataclass(frozen=True)
class LinkSlotsState(State):
    """The slots that are filled, the latest last, (B, H, M, K)."""

    slots_BHMK: Tensor


class LinkSlots(Block):
    """Each token reads the earlier queries that are nearest to its own, then fills a slot with it."""

    in_torch = ("link slots",)
    chooses = True

    q: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: LinkSlotsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.dim, self.slots, self.top = plan.heads, plan.dim, plan.slots, plan.top

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._read(self._queries(x_BTD, flow), 0, flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> LinkSlotsState:
        """No slot is filled."""
        return LinkSlotsState(torch.zeros(batch, self.heads, 0, self.dim, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: LinkSlotsState, flow: Flow) -> tuple[Tensor, LinkSlotsState]:
        """The next T positions."""
        filled = state.slots_BHMK.shape[2]
        all_BHSK = torch.cat((state.slots_BHMK, self._queries(x_BTD, flow)), dim=2)
        return self._read(all_BHSK, filled, flow), LinkSlotsState(all_BHSK[:, :, -self.slots :])

    def _queries(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, H, T, K)."""
        return flow.project(x_BTD, self.q).to(x_BTD.dtype).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _read(self, all_BHSK: Tensor, filled: int, flow: Flow) -> Tensor:
        """What the queries behind the first `filled` find among those before each."""
        q_BHTK, compute = all_BHSK[:, :, filled:], compute_dtype(all_BHSK)
        scores_BHTS = (q_BHTK.to(compute) @ all_BHSK.to(compute).mT) * self.dim**-0.5
        scores_BHTS = scores_BHTS.masked_fill(~self._sees(all_BHSK, filled, flow), -torch.inf)
        best_BHTM, index_BHTM = scores_BHTS.topk(min(self.top, all_BHSK.shape[2]), dim=-1)
        own_BHT1 = q_BHTK.to(compute).square().sum(-1, keepdim=True) * self.dim**-0.5
        shares_BHTM, own_BHT1 = torch.cat((best_BHTM, own_BHT1), -1).softmax(-1).split((best_BHTM.shape[-1], 1), -1)
        shares_BHTS = torch.zeros_like(scores_BHTS, dtype=shares_BHTM.dtype).scatter(-1, index_BHTM, shares_BHTM)
        y_BHTK = shares_BHTS.to(q_BHTK.dtype) @ all_BHSK + own_BHT1.to(q_BHTK.dtype) * q_BHTK
        return flow.project(y_BHTK.transpose(1, 2).flatten(-2), self.o)

    def _sees(self, all_BHSK: Tensor, filled: int, flow: Flow) -> Tensor:
        """Whether a query may read a slot, which is earlier, kept, and of its document: (T, S) or (B, 1, T, S)."""
        places_S = torch.arange(all_BHSK.shape[2], device=all_BHSK.device)
        apart_TS = places_S[filled:, None] - places_S
        sees_TS = (apart_TS > 0) & (apart_TS <= self.slots)
        if flow.segments_BT is None:
            return sees_TS
        documents_BT = document_numbers(flow.segments_BT)
        return sees_TS & (documents_BT[:, None, :, None] == documents_BT[:, None, None, :])
