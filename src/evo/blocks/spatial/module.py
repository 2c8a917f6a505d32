"""Mixing by place: one learned matrix for every text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.spatial.keyed import keyed_means
from evo.blocks.spatial.spec import SpatialPlan
from evo.kernels.documents import document_starts
from evo.kernels.fused import ACTS

EPS = 1e-6
"""Added to the mean square of weights that are normalised."""


@dataclass(frozen=True)
class SpatialState(State):
    """The values so far, (B, S, C), and the keys, if there are any."""

    past_BSC: Tensor
    keys_BSC: Tensor | None = None


class Spatial(Block):
    """o(g * (W v + b)), W lower triangular (Liu et al. 2105.08050, eq. 3; Tay et al. 2005.00743, section 3.2)."""

    v: nn.Parameter
    k: nn.Parameter | None
    gate: nn.Parameter | None
    o: nn.Parameter
    places: nn.Parameter | None
    places_to: nn.Parameter | None
    places_from: nn.Parameter | None
    place_bias: nn.Parameter | None
    place_gain: nn.Parameter | None
    place_shift: nn.Parameter | None

    def __init__(self, plan: SpatialPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.act = ACTS[plan.act]
        self.gate_act = ACTS[plan.gate_act] if plan.gate_act else None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._out(self._values(x_BTD, flow), self._keys(x_BTD, flow), x_BTD, flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> SpatialState:
        """No value yet."""
        nothing_BSC = torch.zeros(batch, 0, self.plan.inner, device=device, dtype=dtype)
        return SpatialState(nothing_BSC, None if self.k is None else nothing_BSC)

    def extend(self, x_BTD: Tensor, state: SpatialState, flow: Flow) -> tuple[Tensor, SpatialState]:
        """The next T positions. Raises ValueError beyond the context, where places end."""
        past_BSC = torch.cat((state.past_BSC, self._values(x_BTD, flow)), dim=1)
        keys_BSC = self._keys(x_BTD, flow)
        if keys_BSC is not None and state.keys_BSC is not None:
            keys_BSC = torch.cat((state.keys_BSC, keys_BSC), dim=1)
        return self._out(past_BSC, keys_BSC, x_BTD, flow), SpatialState(past_BSC, keys_BSC)

    def _keys(self, x_BTD: Tensor, flow: Flow) -> Tensor | None:
        return None if self.k is None else flow.project(x_BTD, self.k)

    def _values(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        v_BTC = self.act(flow.project(x_BTD, self.v))
        norm = self._modules.get("norm")
        return norm(v_BTC, flow) if isinstance(norm, Norm) else v_BTC

    def _out(self, v_BSC: Tensor, k_BSC: Tensor | None, x_BTD: Tensor, flow: Flow) -> Tensor:
        """The outputs of the last T tokens. v_BSC, k_BSC: the values and keys of all."""
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
        logits_BHTS = self._logits(rows_BT, place_BS, compute_dtype(v_BSC))
        y_BTC = self._mixed(logits_BHTS, seen_BTS[:, None], k_BSC, v_BSC.to(logits_BHTS.dtype))
        if self.place_bias is not None:
            y_BTC = y_BTC + self.place_bias.T[rows_BT].repeat_interleave(self.plan.inner // self.plan.heads, dim=-1)
        y_BTC = y_BTC.to(x_BTD.dtype)
        if self.gate is not None and self.gate_act is not None:
            y_BTC = y_BTC * self.gate_act(flow.project(x_BTD, self.gate))
        return flow.project(y_BTC, self.o)

    def _mixed(self, logits_BHTS: Tensor, seen_B1TS: Tensor, k_BSC: Tensor | None, v_BSC: Tensor) -> Tensor:
        """What the weights of earlier places, and keys, make of values, (B, T, C)."""
        hidden = 0.0 if self.plan.weigh == "plain" else -torch.inf
        found_BHTS = logits_BHTS.masked_fill(~seen_B1TS, hidden)
        if k_BSC is not None:
            return keyed_means(found_BHTS.expand(v_BSC.shape[0], -1, -1, -1), k_BSC.to(v_BSC.dtype), v_BSC)
        weights_BHTS = found_BHTS if self.plan.weigh == "plain" else found_BHTS.softmax(-1)
        v_BHSC = v_BSC.unflatten(-1, (self.plan.heads, -1)).transpose(1, 2)
        return (weights_BHTS @ v_BHSC).transpose(1, 2).flatten(-2)

    def _by_distance(self, places_HS: Tensor) -> Tensor:
        """Weights as they are, or normalised by head (Zhai et al. 2105.14103, section 3.2)."""
        if self.place_gain is None:
            return places_HS
        away_HS = places_HS - places_HS.mean(-1, keepdim=True)
        unit_HS = away_HS * (away_HS.square().mean(-1, keepdim=True) + EPS).rsqrt()
        found_HS = self.place_gain.to(places_HS.dtype)[:, None] * unit_HS
        return found_HS if self.place_shift is None else found_HS + self.place_shift.to(places_HS.dtype)[:, None]

    def _logits(self, rows_BT: Tensor, places_BS: Tensor, dtype: torch.dtype) -> Tensor:
        """The numbers of all places, later ones too, (B or 1, H, T, S)."""
        away_BTS, window = (rows_BT[..., None] - places_BS[:, None]).clamp_min(0), self.plan.window
        if self.places_to is not None and self.places_from is not None:
            to, of = self.places_to.to(dtype)[:, rows_BT], self.places_from.to(dtype)[:, places_BS]
            found_HBTS = to @ of.mT
        elif self.places is None:
            found_HBTS = away_BTS.new_zeros(self.plan.heads, *away_BTS.shape, dtype=dtype)
        elif self.plan.by == "distance":
            found_HBTS = self._by_distance(self.places.to(dtype))[:, away_BTS.clamp_max(self.places.shape[-1] - 1)]
        else:
            at_BTS = places_BS[:, None] if window is None else away_BTS.clamp_max(self.places.shape[-1] - 1)
            found_HBTS = self.places.to(dtype)[:, rows_BT[..., None], at_BTS]
        if window is not None:
            found_HBTS = found_HBTS.masked_fill(away_BTS >= window, 0.0)
        return found_HBTS.transpose(0, 1)
