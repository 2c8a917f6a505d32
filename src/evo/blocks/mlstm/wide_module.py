"""The block of xLSTM's first paper: a matrix memory between maps to a wider space and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.flow import Flow
from evo.blocks.mlstm.module import Memory, MLSTMState
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True, kw_only=True)
class WideState(MLSTMState):
    """The same, and what the convolution read of the latest tokens, (B, W - 1, C)."""

    past_BWC: Tensor


class WideMLSTM(Memory):
    """o(silu(gate(x)) * (norm(read) + skip * silu(conv(up(x)))))."""

    up: nn.Parameter
    taps: nn.Parameter
    taps_bias: nn.Parameter
    skip: nn.Parameter

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The convolution and the recurrence of a parallel pass."""
        u_BTC = flow.project(x_BTD, self.up)
        convolved = plan_convolution(u_BTC, self.taps, bias_D=self.taps_bias, activation="silu")
        q, k, v = (self._mapped(u_BTC, w, flow).unflatten(-1, (self.heads, -1)) for w in (self.q, self.k, self.v))
        return [convolved, self._problem(q, k, v)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> WideState:
        """Zeros, as before the first token."""
        found = super().initial_state(batch, device, dtype)
        channels, size = self.taps.shape
        past = torch.zeros(batch, size - 1, channels, device=device, dtype=dtype)
        return WideState(found.memory_BHKV, found.largest_BH, past_BWC=past)

    def extend(self, x_BTD: Tensor, state: MLSTMState, flow: Flow) -> tuple[Tensor, WideState]:
        """The next T positions."""
        assert isinstance(state, WideState)
        u_BTC = flow.project(x_BTD, self.up)
        c_BTC, past = short_convolution(
            u_BTC,
            self.taps,
            bias_D=self.taps_bias,
            activation="silu",
            state_BWD=state.past_BWC,
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        qkv = [self._mapped(y, w, flow) for y, w in ((c_BTC, self.q), (c_BTC, self.k), (u_BTC, self.v))]
        q, k, v = (y_BTC.unflatten(-1, (self.heads, -1)) for y_BTC in qkv)
        normed_BTC, kept = self._read(q, k, v, torch.cat(qkv, dim=-1), state, flow)
        y_BTC = normed_BTC.to(x_BTD.dtype) + self.skip.to(x_BTD.dtype) * c_BTC
        y_BTC = y_BTC * F.silu(flow.project(x_BTD, self.gate))
        return flow.project(y_BTC, self.o), replace(
            state, memory_BHKV=kept.memory_BHKV, largest_BH=kept.largest_BH, past_BWC=past
        )

    @staticmethod
    def _mapped(y_BTC: Tensor, blocks: Tensor, flow: Flow) -> Tensor:
        """A block-diagonal map, (B, T, C) -> (B, T, C)."""
        parts_NBTP = y_BTC.unflatten(-1, (len(blocks), -1)).movedim(-2, 0)
        return flow.project(parts_NBTP, blocks).movedim(0, -2).flatten(-2)
