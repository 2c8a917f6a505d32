"""Muon's settings, and which weights it takes."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import Weight
from evo.optimizers.adamw.spec import AdamWSpec
from evo.optimizers.spec import Beta, Decay, LearningRate, OptimizerSpec

if TYPE_CHECKING:
    from evo.optimizers.rule import Rule

SHORTEST_SIDE = 8
"""A matrix with a shorter side is a gate per head rather than a map worth orthogonalising."""


class MuonSpec(OptimizerSpec):
    """Muon (Jordan et al. 2024) for matrices, AdamW for embeddings and vectors."""

    kind: ClassVar[str | None] = "muon"

    lr: Annotated[LearningRate, Gene(1e-3, 0.1, "scale")] = 2e-2
    """Peak learning rate of matrices."""
    momentum: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.95
    """Decay of the momentum."""
    nesterov: bool = True
    """Whether the update looks ahead along the momentum."""
    steps: Annotated[int, Field(ge=1, le=20), FIXED] = 5
    """Newton-Schulz iterations."""
    weight_decay: Annotated[Decay, Gene(1e-3, 0.5, "scale")] = 0.1
    """Decoupled decay of matrices."""
    adamw_lr: Annotated[LearningRate, Gene(1e-4, 3e-2, "scale")] = 3e-3
    """Peak learning rate of everything else."""

    def assign(self, weights: Mapping[str, Weight]) -> "dict[str, Rule]":
        """Muon for the matrices inside the network, stacked or not; AdamW, with betas 0.9 and 0.95, for the rest."""
        from evo.optimizers.muon.rule import Muon

        muon = Muon(self.lr, self.momentum, self.nesterov, self.steps, self.weight_decay)
        adamw = AdamWSpec(lr=self.adamw_lr, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=self.weight_decay)
        rest = adamw.assign(weights)
        return {path: muon if is_map(weight) else rest[path] for path, weight in weights.items()}

    def step_flops(self, weights: Mapping[str, Weight]) -> float:
        """Three products a Newton-Schulz step and matrix (R, C), R <= C: 4 R^2 C + 2 R^3."""
        return self.steps * sum(_products(weight.shape) for weight in weights.values() if is_map(weight))


def _products(shape: tuple[int, ...]) -> float:
    short, long = sorted(shape[-2:])
    return math.prod(shape[:-2]) * (4.0 * short**2 * long + 2.0 * short**3)


def is_map(weight: Weight) -> bool:
    """Whether a weight maps many channels of the network to many: a matrix, or a stack of them, with no short side."""
    return weight.group == "matrix" and weight.is_linear and min(weight.shape[-2:]) >= SHORTEST_SIDE
