"""Keys and values for a later segment, which teach their maps and not what they are made of (Dai et al. 1901.02860)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from evo.blocks.attention.met_heads import Meeting
from evo.blocks.attention.tapped import Taps
from evo.blocks.flow import Flow

Heads = tuple[Tensor, Tensor, Tensor]
Project = Callable[[Tensor, Tensor, Flow, Meeting | None, Taps], Heads]


def made_apart(
    make: Callable[[Tensor, Flow], Tensor],
    project: Project,
    x_BTD: Tensor,
    met: Meeting | None,
    taps: Taps,
    flow: Flow,
) -> Heads:
    """What `project` makes of an input through which no gradient flows, and of what `make` gives queries of it.

    taps: those of the pass itself.
    """
    signals = {name: signal.detach() for name, signal in flow.signals.items()}
    past = {name: before.detach() for name, before in taps.before.items()}
    alone, x_BTD = replace(flow.copied(), signals=signals), x_BTD.detach()
    return project(x_BTD, make(x_BTD, alone), alone, met, Taps(taps.spec, past, backend=taps.backend))
