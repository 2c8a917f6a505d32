"""Hashed n-grams: the tokens so far decide which vectors are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.ngrams.spec import PRIMES, NgramsPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.documents import document_numbers


@dataclass(frozen=True)
class NgramsState(State):
    """The latest tokens, one fewer than the longest n-gram has, (B, S) int64; 0 before the first."""

    tokens_BS: Tensor


class Ngrams(Stage):
    """x_t + sum over sizes n and functions of table[hash(tokens t-n+1 .. t)]."""

    table: nn.Parameter

    def __init__(self, plan: NgramsPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.sizes, self.rows, self.functions = plan.sizes, plan.rows, plan.functions

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._added(x_BTD, F.pad(flow.signals["tokens"], (max(self.sizes) - 1, 0)), flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> NgramsState:
        """Zeros, as n-grams that begin before the first token have."""
        del dtype
        return NgramsState(torch.zeros(batch, max(self.sizes) - 1, dtype=torch.int64, device=device))

    def extend(self, x_BTD: Tensor, state: NgramsState, flow: Flow) -> tuple[Tensor, NgramsState]:
        """The next T positions."""
        tokens_BS = torch.cat((state.tokens_BS, flow.signals["tokens"]), dim=1)
        return self._added(x_BTD, tokens_BS, flow), NgramsState(
            tokens_BS[:, tokens_BS.shape[1] - max(self.sizes) + 1 :]
        )

    def _added(self, x_BTD: Tensor, tokens_BS: Tensor, flow: Flow) -> Tensor:
        """tokens_BS: those of x, behind as many as the longest n-gram needs."""
        count, total_BTD = x_BTD.shape[1], x_BTD
        for function in range(self.functions):
            for index, size in enumerate(self.sizes):
                windows_BTN = tokens_BS[:, tokens_BS.shape[1] - count - size + 1 :].unfold(1, size, 1)
                rows_BT = hashed(self._own(windows_BTN, flow), PRIMES[function]) % self.rows
                offset = (function * len(self.sizes) + index) * self.rows
                total_BTD = total_BTD + F.embedding(rows_BT + offset, self.table).to(x_BTD.dtype)
        return total_BTD

    def _own(self, windows_BTN: Tensor, flow: Flow) -> Tensor:
        """n-grams with 0 for tokens of earlier documents."""
        if flow.segments_BT is None:
            return windows_BTN
        size = windows_BTN.shape[-1]
        numbers_BTN = F.pad(document_numbers(flow.segments_BT), (size - 1, 0)).unfold(1, size, 1)
        return windows_BTN * (numbers_BTN == numbers_BTN[..., -1:])


def hashed(windows_BTN: Tensor, prime: int) -> Tensor:
    """sum_i token_i prime^i, modulo 2^64 as int64: (B, T, N) -> (B, T)."""
    factor = (prime + 2**63) % 2**64 - 2**63
    *earlier, sums_BT = windows_BTN.unbind(-1)
    for tokens_BT in reversed(earlier):
        sums_BT = sums_BT * factor + tokens_BT
    return sums_BT
