"""One step of each cell, channel by channel: what a token brings meets what the network's own last output brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.fused import ACTS

NOTHING_YET = -1e30
"""The largest exponent before the first token: below all that tokens bring, and finite, so that it has differences."""

EMPTY = (0.0, 0.0, 0.0, NOTHING_YET)
"""Each part of a memory before the first token."""

Memory = tuple[Tensor, ...]
"""What a cell keeps, each (..., P), float32 or wider: its output h, an lstm's cell c, and where its input gate is
exponential, the sum n of what gates let in and the largest exponent m; c and n are divided by exp(m)."""


@dataclass(frozen=True)
class Cell:
    """A cell and its settings. `step` has no effect from one channel on another: maps of outputs are not its part."""

    name: str
    forget: str
    act: str

    def step(self, tokens_GP: Tensor, own_GP: Tensor, own_P: Tensor | None, memory: Memory) -> Memory:
        """The memory after a token.

        tokens_GP, own_GP: W x + b and R h of the gates, (..., G, P). own_P: of a gru, R (r h) where its reset gate
        comes before the candidate's map, and the bias of R h where it comes after.
        """
        return STEPS[self.name](self, tokens_GP, own_GP, own_P, memory)


def emptied(memory: Memory, starts: Tensor) -> Memory:
    """Nothing kept where a document starts, starts (..., 1) being a boolean."""
    return tuple(part.masked_fill(starts, empty) for part, empty in zip(memory, EMPTY, strict=False))


def _plain(cell: Cell, tokens_GP: Tensor, own_GP: Tensor, own_P: Tensor | None, memory: Memory) -> Memory:
    return (ACTS[cell.act]((tokens_GP + own_GP).squeeze(-2)),)


def reset(tokens_GP: Tensor, own_GP: Tensor, h_P: Tensor) -> Tensor:
    """r h of a gru, (..., P)."""
    return (tokens_GP[..., 0, :] + own_GP[..., 0, :]).sigmoid() * h_P


def _gru(cell: Cell, tokens_GP: Tensor, own_GP: Tensor, own_P: Tensor | None, memory: Memory) -> Memory:
    assert own_P is not None
    if own_GP.shape[-2] == tokens_GP.shape[-2]:
        own_P = (tokens_GP[..., 0, :] + own_GP[..., 0, :]).sigmoid() * (own_GP[..., 2, :] + own_P)
    update_P = (tokens_GP[..., 1, :] + own_GP[..., 1, :]).sigmoid()
    new_P = ACTS[cell.act](tokens_GP[..., 2, :] + own_P)
    return (new_P + update_P * (memory[0] - new_P),)


def _lstm(cell: Cell, tokens_GP: Tensor, own_GP: Tensor, own_P: Tensor | None, memory: Memory) -> Memory:
    *opened, forget_P, output_P, candidate_P = (tokens_GP + own_GP).unbind(-2)
    output_P, candidate_P = output_P.sigmoid(), ACTS[cell.act](candidate_P)
    if len(memory) == 2:
        take_P = opened[0].sigmoid() if opened else (-forget_P).sigmoid()
        c_P = torch.addcmul(take_P * candidate_P, forget_P.sigmoid(), memory[1])
        return output_P * ACTS[cell.act](c_P), c_P
    _, c_P, n_P, m_P = memory
    risen_P = m_P + (F.logsigmoid(forget_P) if cell.forget == "sigmoid" else forget_P)
    m_P = torch.maximum(risen_P, opened[0]).detach()  # outputs do not depend on it
    keep_P, take_P = (risen_P - m_P).exp(), (opened[0] - m_P).exp()
    c_P, n_P = torch.addcmul(take_P * candidate_P, keep_P, c_P), torch.addcmul(take_P, keep_P, n_P)
    return output_P * c_P / n_P, c_P, n_P, m_P


STEPS: dict[str, Callable[[Cell, Tensor, Tensor, Tensor | None, Memory], Memory]] = {
    "lstm": _lstm,
    "gru": _gru,
    "plain": _plain,
}
