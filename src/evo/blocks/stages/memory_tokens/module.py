"""Memory tokens: a stage runs over a longer sequence, in which learned vectors stand behind each segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.memory_tokens.spec import MemoryTokensPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import document_starts


@dataclass(frozen=True)
class MemoryTokensState(State):
    """seen: tokens so far, learned ones not counted. blocks: what the stage inside kept."""

    seen: int = 0
    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], State])


class MemoryTokens(Stage):
    """What f(segment 0, learned, segment 1, learned, ...) gives the tokens."""

    learned: nn.Parameter

    def __init__(self, plan: MemoryTokensPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.every, self.count = plan.every, plan.count
        (body,) = children.values()
        assert isinstance(body, Stage)
        self.of = (body,)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D). Segments of packed documents begin with each of them."""
        if flow.segments_BT is None:
            return self._passed(x_BTD, 0, replace(flow, signals={}))
        rows: list[Tensor] = []
        for x_TD, starts_T in zip(x_BTD, document_starts(flow.segments_BT), strict=True):
            edges = sorted({0, *starts_T.nonzero()[:, 0].tolist(), len(x_TD)})
            parts = [x_TD[None, start:end] for start, end in pairwise(edges)]
            alone = (self._passed(part, 0, replace(flow, signals={}, segments_BT=None)) for part in parts)
            rows.append(torch.cat(list(alone), dim=1))
        return torch.cat(rows)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> MemoryTokensState:
        """No token yet."""
        del batch, device, dtype
        return MemoryTokensState()

    def extend(self, x_BTD: Tensor, state: MemoryTokensState, flow: Flow) -> tuple[Tensor, MemoryTokensState]:
        """The next T positions: learned vectors are read before the first token of another segment."""
        inner = flow.inside(state.seen + max(0, state.seen - 1) // self.every * self.count, state.blocks)
        y_BTD = self._passed(x_BTD, state.seen, inner)
        return y_BTD, MemoryTokensState(state.seen + x_BTD.shape[1], inner.next_states)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over the longer sequence."""
        yield from self.of[0].layer_problems(self._with_learned(x_BTD, 0), flow)

    def _passed(self, x_BTD: Tensor, start: int, inner: Flow) -> Tensor:
        """What the stage gives T tokens, the first of them at `start`."""
        y_BND = self.of[0].run({"x": [self._with_learned(x_BTD, start)]}, inner).value()
        first, more = start % self.every, self.count if self._begins_segment(start) else 0
        y_BND = F.pad(y_BND[:, more:], (0, 0, first, self.count + self.every))  # to begin and end with whole segments
        whole = y_BND.shape[1] // (self.every + self.count) * (self.every + self.count)
        y_BSRD = y_BND[:, :whole].unflatten(1, (-1, self.every + self.count))
        return y_BSRD[:, :, : self.every].flatten(1, 2)[:, first : first + x_BTD.shape[1]]

    def _with_learned(self, x_BTD: Tensor, start: int) -> Tensor:
        """Tokens, the first of them at `start`, with the learned vectors before and between them, (B, N, D)."""
        first, tokens = start % self.every, x_BTD.shape[1]
        x_BSRD = F.pad(x_BTD, (0, 0, first, -(first + tokens) % self.every)).unflatten(1, (-1, self.every))
        learned_BSMD = self.learned.to(x_BTD.dtype).expand(*x_BSRD.shape[:2], -1, -1)
        end = first + tokens + (first + tokens - 1) // self.every * self.count
        long_BND = torch.cat((x_BSRD, learned_BSMD), dim=2).flatten(1, 2)[:, first:end]
        return torch.cat((learned_BSMD[:, 0], long_BND), dim=1) if self._begins_segment(start) else long_BND

    def _begins_segment(self, start: int) -> bool:
        """Whether a token there is the first of a segment behind another."""
        return start > 0 and start % self.every == 0
