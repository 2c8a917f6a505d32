"""What the time mixings of RWKV-6 and RWKV-7 share: token shift, heads with a matrix of memory, a norm by head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.kernels.recurrence import recur


@dataclass(frozen=True)
class TimeMixingState(State):
    """The input before these, (B, D), and the memory of every head, (B, H, K, V) float32 or wider."""

    before_BD: Tensor
    memory_BHKV: Tensor


class TimeMixing(Block):
    """A mixer of H heads, each with a matrix of K = V = D / H rows. A subclass sets the three numbers and `_mix`es."""

    r: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    norm_gain: nn.Parameter
    norm_bias: nn.Parameter
    o: nn.Parameter
    heads: int
    head_dim: int
    eps: float

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._mix(x_BTD, None, flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> TimeMixingState:
        """Zeros, as before the first token."""
        kept = torch.promote_types(dtype, torch.float32)
        memory = torch.zeros(batch, self.heads, self.head_dim, self.head_dim, device=device, dtype=kept)
        return TimeMixingState(torch.zeros(batch, self.heads * self.head_dim, device=device, dtype=dtype), memory)

    def extend(self, x_BTD: Tensor, state: TimeMixingState, flow: Flow) -> tuple[Tensor, TimeMixingState]:
        """The next T positions."""
        return self._mix(x_BTD, state, flow)

    def _mix(self, x_BTD: Tensor, state: TimeMixingState | None, flow: Flow) -> tuple[Tensor, TimeMixingState]:
        raise NotImplementedError

    def _read(
        self,
        r_BTHK: Tensor,
        k_BTHK: Tensor,
        v_BTHV: Tensor,
        state: TimeMixingState | None,
        flow: Flow,
        **form: Any,
    ) -> tuple[Tensor, Tensor]:
        """What r reads from memory, normed by head, (B, T, D), and the memory. form: arguments of `recur`."""
        o_BTHV, memory_BHKV = recur(
            r_BTHK,
            k_BTHK,
            v_BTHV,
            scale=1.0,
            initial_state_BHKV=None if state is None else state.memory_BHKV,
            segments_BT=flow.segments_BT,
            backend=self.backend,
            **form,
        )
        rows_XD = o_BTHV.flatten(0, 1).flatten(-2)
        normed_XD = F.group_norm(rows_XD, self.heads, self.norm_gain, self.norm_bias, self.eps)
        return normed_XD.unflatten(0, o_BTHV.shape[:2]), memory_BHKV

    def _by_head(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, self.head_dim))
