"""RWKV-4's time mixing; equations in README.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.shift import mixed, shifted
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts
from evo.kernels.scan import plan as plan_scan
from evo.kernels.scan import scan

NEVER = -1e30
"""The largest exponent before the first token."""


@dataclass(frozen=True)
class WKVState(State):
    """The input before these, (B, D), and for each channel the sums of weighed values and of weights, divided by
    exp(largest): (B, C) each, float32 or wider."""

    before_BD: Tensor
    sums_BC: Tensor
    weights_BC: Tensor
    largest_BC: Tensor


class WKV(Block):
    """o(sigmoid(r) * mean of the past values, the token's own by a weight of its own)."""

    r_mix: nn.Parameter
    k_mix: nn.Parameter
    v_mix: nn.Parameter
    r: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    decay_rate: nn.Parameter
    bonus: nn.Parameter
    o: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The scan of sums and weights of a parallel pass."""
        both_BTX = x_BTD.new_empty(*x_BTD.shape[:2], 2 * self.k.shape[0])
        return [plan_scan(both_BTX, both_BTX)]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> WKVState:
        """Zeros, and no largest exponent."""
        inner, width = self.k.shape
        sums_BC = torch.zeros(batch, inner, device=device, dtype=torch.promote_types(dtype, torch.float32))
        before_BD = torch.zeros(batch, width, device=device, dtype=dtype)
        return WKVState(before_BD, sums_BC, sums_BC, torch.full_like(sums_BC, NEVER))

    def extend(self, x_BTD: Tensor, state: WKVState, flow: Flow) -> tuple[Tensor, WKVState]:
        """The next T positions."""
        earlier_BTD = shifted(x_BTD, state.before_BD, flow.segments_BT)
        parts = ((self.r_mix, self.r), (self.k_mix, self.k), (self.v_mix, self.v))
        r, k, v = (flow.project(mixed(earlier_BTD, x_BTD, mix), weight) for mix, weight in parts)
        mean_BTC, memory = self._means(k.to(compute_dtype(k)), v.to(compute_dtype(v)), state, flow)
        y_BTD = flow.project(r.sigmoid() * mean_BTC.to(r.dtype), self.o)
        return y_BTD, WKVState(x_BTD[:, -1], *memory)

    def _means(
        self, k_BTC: Tensor, v_BTC: Tensor, state: WKVState, flow: Flow
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """The weighed means, and the state. Sums are kept divided by exp(m), m the largest exponent so far: what m is
        does not change any mean, so no gradient passes it."""
        log_decay_C = -self.decay_rate.to(k_BTC.dtype).exp()
        largest_BTC, previous_BTC = self._largest(k_BTC.detach(), log_decay_C.detach(), state)
        decay_BTC = (log_decay_C + previous_BTC - largest_BTC).exp()
        weight_BTC = (k_BTC - largest_BTC).exp()
        states_BTX, last_BX = scan(
            torch.cat((decay_BTC, decay_BTC), -1),
            torch.cat((weight_BTC * v_BTC, weight_BTC), -1),
            torch.cat((state.sums_BC, state.weights_BC), -1),
            segments_BT=flow.segments_BT,
            backend=self.backend,
        )
        earlier_BTX = torch.cat((torch.cat((state.sums_BC, state.weights_BC), -1)[:, None], states_BTX[:, :-1]), 1)
        if flow.segments_BT is not None:
            earlier_BTX = earlier_BTX.masked_fill(document_starts(flow.segments_BT)[..., None], 0.0)
            previous_BTC = previous_BTC.masked_fill(document_starts(flow.segments_BT)[..., None], NEVER)
        sums_BTC, weights_BTC = earlier_BTX.chunk(2, -1)
        own_BTC = k_BTC + self.bonus
        top_BTC = torch.maximum(previous_BTC, own_BTC).detach()
        past_BTC, now_BTC = (previous_BTC - top_BTC).exp(), (own_BTC - top_BTC).exp()
        mean_BTC = (past_BTC * sums_BTC + now_BTC * v_BTC) / (past_BTC * weights_BTC + now_BTC)
        last_sums_BC, last_weights_BC = last_BX.chunk(2, -1)
        return mean_BTC, (last_sums_BC, last_weights_BC, largest_BTC[:, -1])

    @staticmethod
    def _largest(k_BTC: Tensor, log_decay_C: Tensor, state: WKVState) -> tuple[Tensor, Tensor]:
        """m_t = max(m_{t-1} + log decay, k_t), and m_{t-1}, at every token.

        Across a border between documents m goes on, which changes no mean.
        """
        steps_T1 = torch.arange(1, k_BTC.shape[1] + 1, device=k_BTC.device)[:, None]
        fallen_BTC = steps_T1 * log_decay_C
        risen_BTC = torch.cat((state.largest_BC[:, None].to(k_BTC.dtype), k_BTC - fallen_BTC), dim=1).cummax(1).values
        largest_BTC = risen_BTC[:, 1:] + fallen_BTC
        return largest_BTC, torch.cat((state.largest_BC[:, None].to(k_BTC.dtype), largest_BTC[:, :-1]), dim=1)
