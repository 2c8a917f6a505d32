"""Memory tokens: a stage runs over a longer sequence, in which learned vectors stand behind each segment, or first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.memory_tokens.spec import MemoryTokensPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall
from evo.kernels.documents import apart


@dataclass(frozen=True)
class MemoryTokensState(State):
    """seen: tokens so far, learned ones not counted. blocks: what the stage inside kept."""

    seen: int = 0
    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], State])


class MemoryTokens(Stage):
    """What f(segment 0, learned, segment 1, learned, ...) gives the tokens, or f(learned, tokens)."""

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
        segments_BT = flow.segments_BT
        return apart(
            lambda x_1ND: self._passed(x_1ND, 0, replace(flow, signals={}, segments_BT=None)), x_BTD, segments_BT
        )

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> MemoryTokensState:
        """No token yet."""
        del batch, device, dtype
        return MemoryTokensState()

    def extend(self, x_BTD: Tensor, state: MemoryTokensState, flow: Flow) -> tuple[Tensor, MemoryTokensState]:
        """The next T positions: learned vectors are read before the token that they stand before."""
        inner = flow.inside(state.seen + self._times(state.seen) * self.count, state.blocks)
        y_BTD = self._passed(x_BTD, state.seen, inner)
        return y_BTD, MemoryTokensState(state.seen + x_BTD.shape[1], inner.next_states)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over the longer sequence."""
        yield from self.of[0].layer_problems(self._with_learned(x_BTD, 0), flow)

    def _passed(self, x_BTD: Tensor, start: int, inner: Flow) -> Tensor:
        """What the stage gives T tokens, the first of them at `start`."""
        y_BND = self.of[0].run({"x": [self._with_learned(x_BTD, start)]}, inner).value()
        y_BND = y_BND[:, self.count if self._stand_before(start) else 0 :]
        return (
            y_BND
            if self.every is None
            else self._without_learned(y_BND, start % self.every, self.every, x_BTD.shape[1])
        )

    def _with_learned(self, x_BTD: Tensor, start: int) -> Tensor:
        """Tokens, the first of them at `start`, with the learned vectors before and between them, (B, N, D)."""
        learned_BMD = self.learned.to(x_BTD.dtype).expand(x_BTD.shape[0], -1, -1)
        z_BND = x_BTD if self.every is None else self._in_segments(x_BTD, start % self.every, self.every)
        return torch.cat((learned_BMD, z_BND), dim=1) if self._stand_before(start) else z_BND

    def _in_segments(self, x_BTD: Tensor, first: int, every: int) -> Tensor:
        """Tokens, the first of them at that place of its segment, with the learned vectors between segments."""
        end = first + x_BTD.shape[1]
        x_BSRD = F.pad(x_BTD, (0, 0, first, -end % every)).unflatten(1, (-1, every))
        learned_BSMD = self.learned.to(x_BTD.dtype).expand(*x_BSRD.shape[:2], -1, -1)
        return torch.cat((x_BSRD, learned_BSMD), dim=2).flatten(1, 2)[:, first : end + (end - 1) // every * self.count]

    def _without_learned(self, y_BND: Tensor, first: int, every: int, tokens: int) -> Tensor:
        """The way back from `_in_segments`, to so many tokens."""
        y_BND = F.pad(y_BND, (0, 0, first, self.count + every))  # to begin and end with whole segments
        whole = y_BND.shape[1] // (every + self.count) * (every + self.count)
        y_BSRD = y_BND[:, :whole].unflatten(1, (-1, every + self.count))
        return y_BSRD[:, :, :every].flatten(1, 2)[:, first : first + tokens]

    def _stand_before(self, token: int) -> bool:
        """Whether learned vectors stand right before a token: the first of all, or of a segment behind another."""
        return token == 0 if self.every is None else token > 0 and token % self.every == 0

    def _times(self, tokens: int) -> int:
        """How often learned vectors stand before one of the first tokens."""
        return min(tokens, 1) if self.every is None else max(0, tokens - 1) // self.every
