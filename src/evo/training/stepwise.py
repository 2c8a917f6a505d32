"""Whether blocks with a state compute at once what they compute step by step, where no future has come yet."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism


@dataclass(frozen=True)
class Mismatch:
    """A block whose pieces differ from the whole from `start` on, by `difference` relative to the largest output."""

    path: str
    start: int
    difference: float


@dataclass(frozen=True)
class _Call:
    x_BTD: Tensor
    flow: Flow
    y_BTD: Tensor


@torch.no_grad()
def mismatch(model: Organism, tokens_BT: Tensor, cut: int, tolerance: float) -> Mismatch | None:
    """The first block whose parallel form is not its continuing form in pieces of `cut` tokens, one, and the rest.

    Each is run on what reaches it in one pass over tokens_BT (B, T) int64, in the model's mode, without autocast.
    """
    length = tokens_BT.shape[1]
    bounds = sorted({0, min(cut, length), min(cut + 1, length), length})
    for block, call in _calls(model, tokens_BT):
        pieces, states = [], {}
        for start, end in pairwise(bounds):
            signals = {name: signal[:, start:end] for name, signal in call.flow.signals.items()}
            flow = Flow(signals, position=start, states=states)
            pieces.append(flow.run(block, call.x_BTD[:, start:end]))
            states = flow.next_states
        difference_T = (torch.cat(pieces, 1) - call.y_BTD).abs().amax((0, 2))
        relative_T = difference_T / call.y_BTD.abs().max().clamp_min(1e-30)
        is_off_T = ~(relative_T <= tolerance)
        if bool(is_off_T.any()):
            return Mismatch(block.path, int(is_off_T.int().argmax()), float(relative_T.max()))
    return None


def _calls(model: Organism, tokens_BT: Tensor) -> list[tuple[Block, _Call]]:
    """The first call of each block that has a state and can go on from it."""
    found: dict[Block, _Call] = {}

    def note(block: nn.Module, args: tuple[Any, ...], y_BTD: Any) -> None:
        assert isinstance(block, Block)
        x_BTD, flow = args
        found.setdefault(block, _Call(x_BTD, Flow(dict(flow.signals)), y_BTD))

    with ExitStack() as stack:
        for _, block in model.named_blocks():
            if block.has_state and type(block).extend is not Block.extend:
                handle = block.register_forward_hook(note)
                stack.callback(handle.remove)
        model(tokens_BT)
    return list(found.items())
