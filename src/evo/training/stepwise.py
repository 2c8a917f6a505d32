"""Whether blocks with a state compute at once what they compute step by step, where no future has come yet."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.kernels.fused.support import REFERENCE

EXACT_TOLERANCE = 1e-6
"""Of what is the same in float64, relative to the largest output."""


@dataclass(frozen=True)
class Mismatch:
    """A block whose pieces differ from the whole from `start` on, by `difference` relative to the largest output."""

    path: str
    start: int
    difference: float


@dataclass(frozen=True)
class Call:
    """What went into a block in a pass over whole sequences, and what came out."""

    x_BTD: Tensor
    flow: Flow
    y_BTD: Tensor


@contextmanager
def noted_calls(model: Organism) -> Iterator[dict[Block, Call]]:
    """The first call of each block that has a state and can go on from it, in the passes made meanwhile."""
    found: dict[Block, Call] = {}
    blocks = {block for _, block in model.named_blocks()}

    def note(block: nn.Module, args: tuple[Any, ...], y_BTD: Any) -> None:
        assert isinstance(block, Block)
        if block not in blocks:  # of a copy of the model
            return
        x_BTD, flow = args
        if not flow.is_bound:  # what binds it is asked itself
            found.setdefault(block, Call(x_BTD, Flow(dict(flow.signals), project=flow.project), y_BTD))

    with ExitStack() as stack:
        for _, block in model.named_blocks():
            if block.has_state and block.gives_vectors and type(block).extend is not Block.extend:
                handle = block.register_forward_hook(note)
                stack.callback(handle.remove)
        yield found


@torch.no_grad()
def mismatch(calls: Mapping[Block, Call], rows: int, cut: int, tolerance: float) -> Mismatch | None:
    """The first block whose whole form is not its continuing form in pieces of `cut` tokens, one, and the rest.

    Each is run again on the first `rows` rows of what reached it, without autocast. One that chooses by scores is
    heard in float64 too, where a rounding tips no choice.
    """
    for block, call in calls.items():
        signals = {name: signal[:rows] for name, signal in call.flow.signals.items()}
        call = Call(call.x_BTD[:rows], replace(call.flow, signals=signals), call.y_BTD[:rows])
        relative_T = _differences(block, call, cut)
        is_off_T = ~(relative_T <= tolerance)
        if bool(is_off_T.any()) and not _is_tipped(block, call, cut):
            return Mismatch(block.path, int(is_off_T.int().argmax()), float(relative_T.max()))
    return None


def _differences(block: Block, call: Call, cut: int) -> Tensor:
    """By token, how far the outputs in pieces are from those of the whole, relative to the largest of these, (T,)."""
    length = call.x_BTD.shape[1]
    pieces, states = [], {}
    for start, end in pairwise(sorted({0, min(cut, length), min(cut + 1, length), length})):
        signals = {name: signal[:, start:end] for name, signal in call.flow.signals.items()}
        flow = Flow(signals, position=start, states=states, project=call.flow.project)
        pieces.append(flow.run(block, call.x_BTD[:, start:end]))
        states = flow.next_states
    difference_T = (torch.cat(pieces, 1) - call.y_BTD).abs().amax((0, 2))
    return difference_T / call.y_BTD.abs().max().clamp_min(1e-30)


def _is_tipped(block: Block, call: Call, cut: int) -> bool:
    """Whether it chooses, and the two forms are one in float64, so that it was a rounding that tipped a choice."""
    if not any(module.chooses for module in block.modules() if isinstance(module, Block)):
        return False
    exact = copy.deepcopy(block).double()
    for module in exact.modules():
        if isinstance(module, Block):
            module.backend = REFERENCE
    signals = {name: x.double() if x.is_floating_point() else x for name, x in call.flow.signals.items()}
    x_BTD = call.x_BTD.double()
    try:
        y_BTD = Flow(dict(signals)).run(exact, x_BTD)
        return bool((_differences(exact, Call(x_BTD, Flow(signals), y_BTD), cut) <= EXACT_TOLERANCE).all())
    except RuntimeError:  # it has no arithmetic in float64: what was seen stands
        return False
