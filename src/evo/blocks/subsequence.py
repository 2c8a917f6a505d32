"""Some tokens of each row as a sequence of their own: what blocks compute that not every token enters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from evo.blocks.flow import Flow, Runs, State
from evo.kernels.documents import document_numbers
from evo.kernels.operators import in_transform


@dataclass(frozen=True)
class Subsequence:
    """The tokens of each row that a block is sent, in their order, and behind them others that fill the row up.

    What is causal gives the sent ones what it would give them alone.

    order_BN: the places of the N tokens of each row, the sent ones first. rank_BT: where each sent token stands there.
    """

    order_BN: Tensor
    rank_BT: Tensor

    @classmethod
    def of(cls, is_sent_BT: Tensor, most: int | None = None) -> Subsequence:
        """The tokens for which it is true. N is `most` if given, else the most that a row has, or T where the host may
        not ask."""
        order_BT = (~is_sent_BT).to(torch.uint8).argsort(dim=1, stable=True)
        count = longest(is_sent_BT) if most is None else most
        rank_BT = (is_sent_BT.cumsum(1) - 1).clamp(0, count - 1)
        return cls(order_BT[:, :count], rank_BT)

    def take(self, x_BTX: Tensor) -> Tensor:
        """The rows of these tokens, (B, T, ...) -> (B, N, ...)."""
        return _rows(x_BTX, self.order_BN)

    def back(self, y_BNX: Tensor) -> Tensor:
        """What the sent tokens were given at their own places, (B, N, ...) -> (B, T, ...); others hold some number."""
        return _rows(y_BNX, self.rank_BT)

    def flow(self, flow: Flow, names: tuple[str, ...] = ()) -> Flow:
        """The same pass for these tokens: with those of the signals that are named, and their documents."""
        segments_BT = flow.segments_BT
        if segments_BT is not None:  # an id that returns must not meet itself where what stood between is not sent
            segments_BT = self.take(document_numbers(segments_BT))
        signals = {name: self.take(flow.signals[name]) for name in names if name in flow.signals}
        return replace(flow, signals=signals, segments_BT=segments_BT)


def _rows(x_BTX: Tensor, at_BN: Tensor) -> Tensor:
    index = at_BN.reshape(*at_BN.shape, *(1,) * (x_BTX.ndim - 2))
    return x_BTX.gather(1, index.expand(*at_BN.shape, *x_BTX.shape[2:]))


def longest(is_sent_BT: Tensor) -> int:
    """The most tokens that a row has, one at least; T where the host may not ask."""
    if is_sent_BT.is_meta or in_transform() or torch.compiler.is_exporting():
        return is_sent_BT.shape[1]
    return max(1, int(is_sent_BT.sum(1).max()))


@dataclass(frozen=True)
class Seen(State):
    """What blocks kept of the `seen` tokens of one row that they were sent."""

    seen: int = 0
    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], State])


def extended(
    block: Runs, x_BTD: Tensor, is_sent_BT: Tensor, states: tuple[Seen, ...], flow: Flow, names: tuple[str, ...] = ()
) -> tuple[Tensor, tuple[Seen, ...]]:
    """What a block gives the sent ones of some further tokens, (B, T, D), 0 at others; and the states after them.

    Rows have sequences of different lengths by now, so each is computed for itself.

    states: one for each row. names: of the signals that the block reads.
    """
    y_BTD, after = torch.zeros_like(x_BTD), list(states)
    for row, state in enumerate(states):
        at_N = is_sent_BT[row].nonzero().flatten()
        if not len(at_N):
            continue
        signals = {name: flow.signals[name][row : row + 1, at_N] for name in names if name in flow.signals}
        inner = flow.inside(state.seen, state.blocks, signals)
        y_1ND = inner.run(block, x_BTD[row : row + 1, at_N])
        y_BTD = y_BTD.index_put((torch.tensor(row, device=x_BTD.device), at_N), y_1ND[0].to(y_BTD.dtype))
        after[row] = Seen(state.seen + len(at_N), inner.next_states)
    return y_BTD, tuple(after)
