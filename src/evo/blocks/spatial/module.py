"""Mixing by place: one learned matrix for every text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.spatial.spec import SpatialPlan
from evo.kernels.documents import document_starts
from evo.kernels.fused import ACTS


@dataclass(frozen=True)
class SpatialState(State):
    """The values so far, (B, S, C)."""

    past_BSC: Tensor


class Spatial(Block):
    """o(g * (W v + b)), W lower triangular (Liu et al. 2105.08050, eq. 3; Tay et al. 2005.00743, section 3.2)."""

    v: nn.Parameter
    gate: nn.Parameter | None
    o: nn.Parameter
    places: nn.Parameter
    place_bias: nn.Parameter | None

    def __init__(self, plan: SpatialPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.act = ACTS[plan.act]
        self.gate_act = ACTS[plan.gate_act] if plan.gate_act else None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._out(self._values(x_BTD, flow), x_BTD, flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> SpatialState:
        """No value yet."""
        return SpatialState(torch.zeros(batch, 0, self.plan.inner, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: SpatialState, flow: Flow) -> tuple[Tensor, SpatialState]:
        """The next T positions. Raises ValueError beyond the context, where places end."""
        past_BSC = torch.cat((state.past_BSC, self._values(x_BTD, flow)), dim=1)
        return self._out(past_BSC, x_BTD, flow), SpatialState(past_BSC)

    def _values(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        v_BTC = self.act(flow.project(x_BTD, self.v))
        norm = self._modules.get("norm")
        return norm(v_BTC, flow) if isinstance(norm, Norm) else v_BTC

    def _out(self, v_BSC: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The outputs of the last T tokens. v_BSC: the values of all."""
        total = v_BSC.shape[1]
        if total > self.plan.context:
            raise ValueError(f"{total} tokens exceed the context of {self.plan.context}, where places end")
        place_BS = torch.arange(total, device=v_BSC.device)[None]
        seen_BTS = place_BS[:, total - x_BTD.shape[1] :, None] >= place_BS[:, None]
        if flow.segments_BT is not None:  # each document begins at the first place, and sees itself
            starts_BS = F.pad(document_starts(flow.segments_BT), (total - x_BTD.shape[1], 0))
            numbers_BS = starts_BS.cumsum(1)
            first_BS = torch.where(starts_BS, place_BS, 0).cummax(1).values
            seen_BTS = seen_BTS & (numbers_BS[:, total - x_BTD.shape[1] :, None] == numbers_BS[:, None])
            place_BS = place_BS - first_BS
        rows_BT = place_BS[:, total - x_BTD.shape[1] :]
        weights_BHTS = self._weights(rows_BT, place_BS, seen_BTS[:, None], compute_dtype(v_BSC))
        v_BHSC = v_BSC.to(weights_BHTS.dtype).unflatten(-1, (self.plan.heads, -1)).transpose(1, 2)
        y_BTHC = (weights_BHTS @ v_BHSC).transpose(1, 2)
        if self.place_bias is not None:
            y_BTHC = y_BTHC + self.place_bias.T[rows_BT][..., None]
        y_BTC = y_BTHC.flatten(-2).to(x_BTD.dtype)
        if self.gate is not None and self.gate_act is not None:
            y_BTC = y_BTC * self.gate_act(flow.project(x_BTD, self.gate))
        return flow.project(y_BTC, self.o)

    def _weights(self, rows_BT: Tensor, places_BS: Tensor, seen_B1TS: Tensor, dtype: torch.dtype) -> Tensor:
        """The weights of earlier places, (B or 1, H, T, S), 0 for those that are not seen."""
        places = self.places.to(dtype)
        if self.plan.by == "places":
            found_HBTS = places[:, rows_BT[..., None], places_BS[:, None]]
        else:
            found_HBTS = places[:, (rows_BT[..., None] - places_BS[:, None]).clamp_min(0)]
        found_BHTS = found_HBTS.transpose(0, 1)
        if self.plan.weigh == "plain":
            return found_BHTS.masked_fill(~seen_B1TS, 0.0)
        return found_BHTS.masked_fill(~seen_B1TS, -torch.inf).softmax(-1)
