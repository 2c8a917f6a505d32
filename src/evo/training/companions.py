"""The companion of a training, made of its spec."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.companion import Companion, Surroundings
from evo.compiler.build import drawn
from evo.compiler.organism import Organism
from evo.dsl.life import LifeSpec
from evo.training.optimizer import Optimizer


def companion_of(
    spec: LifeSpec | None, model: Organism, optimizer: Optimizer, steps: int, seed: int, row: Callable[[int], Tensor]
) -> Companion | None:
    """What lives beside the steps of a model's training; None where nothing does."""
    if spec is None:
        return None

    def draw(path: str, stream: Stream) -> Tensor:
        return drawn(model.plan.weights[path], stream)

    around = Surroundings(
        model=model,
        states=optimizer.states,
        row=row,
        draw=draw,
        steps=steps,
        stream=Stream(seed).child("companion"),
    )
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec, around)
