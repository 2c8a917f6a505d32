"""Lion's settings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from evo.dsl.genes import Gene
from evo.dsl.plan import Weight
from evo.optimizers.spec import Beta, Decay, LearningRate, OptimizerSpec, decays

if TYPE_CHECKING:
    from evo.optimizers.rule import Rule


class LionSpec(OptimizerSpec):
    """Lion (Chen et al. 2023)."""

    kind: ClassVar[str | None] = "lion"

    lr: Annotated[LearningRate, Gene(3e-5, 1e-2, "scale")] = 5e-4
    """Peak learning rate."""
    beta1: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.9
    """Weight of the momentum in the update."""
    beta2: Annotated[Beta, Gene(0.9, 0.999, "linear")] = 0.99
    """Decay of the momentum."""
    weight_decay: Annotated[Decay, Gene(1e-2, 1.0, "scale")] = 0.3
    """Decoupled decay of matrices."""

    def assign(self, weights: Mapping[str, Weight]) -> "dict[str, Rule]":
        """Two groups: with and without weight decay."""
        from evo.optimizers.lion.rule import Lion

        plain = Lion(self.lr, self.beta1, self.beta2)
        decayed = replace(plain, weight_decay=self.weight_decay)
        return {path: decayed if decays(weight) else plain for path, weight in weights.items()}
