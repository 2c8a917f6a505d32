"""Patches: tokens side by side become one wider vector, a stage runs over these, its outputs become tokens again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow, State
from evo.blocks.residual import Residual
from evo.blocks.stages.patches.spec import PatchesPlan
from evo.blocks.stages.stage import Stage
from evo.kernels.dispatch import KernelCall


@dataclass(frozen=True)
class PatchesState(State):
    """seen: tokens so far. partial_BSD: those of the patch that has not been read yet. given_BSD: what the tokens of
    this patch get, (B, S, D), empty before the first token. blocks: what the stage inside kept."""

    seen: int
    partial_BSD: Tensor
    given_BSD: Tensor
    blocks: Mapping[tuple[str, int], State] = field(default_factory=dict[tuple[str, int], State])


class Patches(Stage):
    """up(f(first, down(patch 0), down(patch 1), ...)), each output cut into the tokens of the next patch."""

    down: nn.Parameter
    up: nn.Parameter
    first: nn.Parameter

    def __init__(self, plan: PatchesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.size = plan.size
        (body,) = children.values()
        assert isinstance(body, Stage)
        self.of = (body,)

    def run(self, inputs: Mapping[str, Sequence[Tensor]], flow: Flow) -> Residual:
        """(B, T, D) -> (B, T, D)."""
        return Residual(flow.run(self, self.merged(inputs["x"])))

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D). Raises ValueError for packed documents, whose bounds cut through patches."""
        if flow.segments_BT is not None:
            raise ValueError("patches do not keep packed documents apart: they run on from one into the next")
        tokens = x_BTD.shape[1]
        whole = (tokens - 1) // self.size * self.size  # the last patch, whole or not, is read by nobody
        patches_BKW = torch.cat((self._begin(x_BTD), self._patches(x_BTD[:, :whole], flow)), dim=1)
        return self._tokens(patches_BKW, replace(flow, signals={}), flow)[:, :tokens]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> PatchesState:
        """No token yet."""
        empty_B0D = torch.empty(batch, 0, self.down.shape[1] // self.size, device=device, dtype=dtype)
        return PatchesState(0, empty_B0D, empty_B0D)

    def extend(self, x_BTD: Tensor, state: PatchesState, flow: Flow) -> tuple[Tensor, PatchesState]:
        """The next T positions. The stage inside reads a patch when the first token of the next one comes."""
        seen, all_BSD = state.seen + x_BTD.shape[1], torch.cat((state.partial_BSD, x_BTD), dim=1)
        read, reads = math.ceil(state.seen / self.size), math.ceil(seen / self.size)
        given_BSD, blocks, start = state.given_BSD, state.blocks, state.seen - max(0, read - 1) * self.size
        whole = (reads - max(1, read)) * self.size
        if reads > read:
            new_BKW = self._patches(all_BSD[:, :whole], flow)
            new_BKW = new_BKW if read else torch.cat((self._begin(x_BTD), new_BKW), dim=1)
            inner = flow.inside(read, blocks)
            given_BSD = torch.cat((given_BSD, self._tokens(new_BKW, inner, flow)), dim=1)
            blocks = inner.next_states
        y_BTD = given_BSD[:, start : start + x_BTD.shape[1]]
        return y_BTD, PatchesState(seen, all_BSD[:, whole:], given_BSD[:, -self.size :], blocks)

    def layer_problems(self, x_BTD: Tensor, flow: Flow) -> Iterator[tuple[str, list[KernelCall]]]:
        """Those of its stage, over patches."""
        patches = -(-x_BTD.shape[1] // self.size)
        yield from self.of[0].layer_problems(x_BTD.new_empty(x_BTD.shape[0], patches, self.down.shape[0]), flow)

    def _begin(self, x_BTD: Tensor) -> Tensor:
        """What stands before the first patch, (B, 1, W)."""
        return self.first.to(x_BTD.dtype).expand(x_BTD.shape[0], 1, -1)

    def _patches(self, x_BSD: Tensor, flow: Flow) -> Tensor:
        """Whole patches as vectors, (B, K size, D) -> (B, K, W)."""
        count = x_BSD.shape[1] // self.size
        wide_BKC = x_BSD.reshape(x_BSD.shape[0], count, self.down.shape[1])
        return flow.project(wide_BKC, self.down).to(x_BSD.dtype)

    def _tokens(self, patches_BKW: Tensor, inner: Flow, flow: Flow) -> Tensor:
        """What the stage makes of patches, as tokens: (B, K, W) -> (B, K size, D)."""
        y_BKW = self.of[0].run({"x": [patches_BKW]}, inner).value()
        y_BKC = flow.project(y_BKW, self.up).to(patches_BKW.dtype)
        return y_BKC.reshape(y_BKC.shape[0], y_BKC.shape[1] * self.size, -1)
