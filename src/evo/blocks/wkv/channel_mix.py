"""RWKV's feed-forward, which remembers one token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.shift import mixed, shifted


@dataclass(frozen=True)
class ChannelMixState(State):
    """The input before these, (B, D)."""

    before_BD: Tensor


class ChannelMix(Block):
    """sigmoid(r(x_r)) * v(relu(k(x_k))²)."""

    k_mix: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    r_mix: nn.Parameter | None
    r: nn.Parameter | None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, shifted(x_BTD, None, flow.segments_BT), flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> ChannelMixState:
        """Zeros, as before the first token."""
        return ChannelMixState(torch.zeros(batch, self.k.shape[1], device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: ChannelMixState, flow: Flow) -> tuple[Tensor, ChannelMixState]:
        """The next T positions."""
        y_BTD = self._mix(x_BTD, shifted(x_BTD, state.before_BD, flow.segments_BT), flow)
        return y_BTD, ChannelMixState(x_BTD[:, -1])

    def _mix(self, x_BTD: Tensor, earlier_BTD: Tensor, flow: Flow) -> Tensor:
        hidden_BTF = F.relu(flow.project(mixed(earlier_BTD, x_BTD, self.k_mix), self.k)).square()
        y_BTD = flow.project(hidden_BTF, self.v)
        if self.r is None or self.r_mix is None:
            return y_BTD
        return y_BTD * flow.project(mixed(earlier_BTD, x_BTD, self.r_mix), self.r).sigmoid()
