"""Vectors of hashed n-grams that the stream, or each of several, lets in by a gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.engram.spec import EngramPlan
from evo.blocks.flow import Flow, State
from evo.dsl.spec import TOKENS
from evo.kernels.documents import document_numbers

LEAST = 1e-6
"""Of what the root of a gate is taken, which has no slope at 0."""


@dataclass(frozen=True)
class EngramState(State):
    """The latest tokens, one fewer than the longest n-gram has, (B, S) int64, and what the convolution reads of the
    latest positions, (B, P, C); before the first there are ends and zeros."""

    tokens_BS: Tensor
    past_BPC: Tensor


class Engram(Block):
    """u + silu(conv(N u)), u_n = sigmoid(root(N k_n . N x_n / sqrt(D))) v for each stream n."""

    in_torch = ("n-gram memory",)

    table: nn.Parameter
    key: nn.Parameter
    v: nn.Parameter
    taps: nn.Parameter

    def __init__(self, plan: EngramPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan, self.longest = plan, plan.sizes[-1]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D), or of several streams, (B, T, N, D) -> (B, T, N, D)."""
        return self.extend(x_BTD, self.initial_state(x_BTD.shape[0], x_BTD.device, x_BTD.dtype), flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> EngramState:
        """Ends, and zeros."""
        tokens_BS = torch.full((batch, self.longest - 1), self.plan.end, dtype=torch.int64, device=device)
        channels, size = self.taps.shape
        return EngramState(
            tokens_BS, torch.zeros(batch, (size - 1) * self.longest, channels, device=device, dtype=dtype)
        )

    def extend(self, x_BTD: Tensor, state: EngramState, flow: Flow) -> tuple[Tensor, EngramState]:
        """The next T positions."""
        tokens_BS = torch.cat((state.tokens_BS, flow.signals[TOKENS]), dim=1)
        x_BTND = x_BTD.unflatten(-1, (1, -1)) if self.plan.streams == 1 else x_BTD
        let_in_BTND = self._let_in(x_BTND, self._rows(tokens_BS, flow).to(x_BTD.dtype), flow)
        read_BTC = self._normed("conv_norm", let_in_BTND, flow).flatten(-2)
        near_BTC, past_BPC = self._near(torch.cat((state.past_BPC, read_BTC), dim=1), flow)
        y_BTND = let_in_BTND + F.silu(near_BTC).view_as(let_in_BTND)
        kept_BS = tokens_BS[:, tokens_BS.shape[1] - self.longest + 1 :]
        return y_BTND.view_as(x_BTD), EngramState(kept_BS, past_BPC)

    def _let_in(self, x_BTND: Tensor, rows_BTE: Tensor, flow: Flow) -> Tensor:
        """The value of the n-grams times the gate of each stream."""
        keys_BTND = flow.project(rows_BTE, self.key).unflatten(-1, (self.plan.streams, -1))
        met_BTND = self._normed("key_norm", keys_BTND, flow) * self._normed("x_norm", x_BTND, flow)
        logits_BTN1 = met_BTND.sum(-1, keepdim=True) * x_BTND.shape[-1] ** -0.5
        gates_BTN1 = torch.sigmoid(logits_BTN1.abs().clamp_min(LEAST).sqrt() * logits_BTN1.sign())
        return gates_BTN1 * flow.project(rows_BTE, self.v)[..., None, :]

    def _normed(self, name: str, x_BTND: Tensor, flow: Flow) -> Tensor:
        norm = self.child(name)
        assert isinstance(norm, Norm)
        return norm(x_BTND, flow)

    def _rows(self, tokens_BS: Tensor, flow: Flow) -> Tensor:
        """The rows of all n-grams that end at each of the latest tokens side by side, (B, T, E)."""
        plan, back = self.plan, self.longest - 1
        count = tokens_BS.shape[1] - back
        mixed_BT = tokens_BS[:, back:] * plan.multipliers[0]
        goes_on = torch.ones_like(mixed_BT, dtype=torch.bool)
        numbers_BS = None if flow.segments_BT is None else F.pad(document_numbers(flow.segments_BT), (back, 0))
        found: list[Tensor] = []
        first, functions = 0, iter(plan.rows)
        for shift in range(1, self.longest):
            earlier_BT = tokens_BS[:, back - shift : back - shift + count]
            goes_on = goes_on & (earlier_BT != plan.end)
            if numbers_BS is not None:
                goes_on = goes_on & (numbers_BS[:, back - shift : back - shift + count] == numbers_BS[:, back:])
            mixed_BT = mixed_BT ^ (torch.where(goes_on, earlier_BT, plan.end) * plan.multipliers[shift])
            if shift + 1 not in plan.sizes:
                continue
            for _ in range(plan.heads):
                rows = next(functions)
                found.append(mixed_BT % rows + first)
                first += rows
        return F.embedding(torch.stack(found, dim=-1), self.table).flatten(-2)

    def _near(self, past_BSC: Tensor, flow: Flow) -> tuple[Tensor, Tensor]:
        """The convolution at the latest positions, (B, T, C), and what later ones need of what it read."""
        size = self.taps.shape[1]
        back = (size - 1) * self.longest
        count = past_BSC.shape[1] - back
        numbers_BS = None if flow.segments_BT is None else F.pad(document_numbers(flow.segments_BT), (back, 0))
        total_BTC = past_BSC[:, back:] * self.taps[:, -1]
        for tap in range(size - 1):
            start = tap * self.longest
            read_BTC = past_BSC[:, start : start + count]
            if numbers_BS is not None:
                other_BT = numbers_BS[:, start : start + count] != numbers_BS[:, back:]
                read_BTC = read_BTC.masked_fill(other_BT[..., None], 0.0)
            total_BTC = total_BTC + read_BTC * self.taps[:, tap]
        return total_BTC, past_BSC[:, count:]
