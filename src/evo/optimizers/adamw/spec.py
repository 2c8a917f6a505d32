"""AdamW's settings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED, Gene
from evo.dsl.plan import Weight
from evo.optimizers.spec import Beta, Decay, LearningRate, OptimizerSpec, decays

if TYPE_CHECKING:
    from evo.optimizers.rule import Rule


class AdamWSpec(OptimizerSpec):
    """AdamW (Loshchilov & Hutter 2019)."""

    kind: ClassVar[str | None] = "adamw"

    lr: Annotated[LearningRate, Gene(1e-4, 3e-2, "scale")] = 3e-3
    """Peak learning rate."""
    beta1: Annotated[Beta, Gene(0.8, 0.98, "linear")] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[Beta, Gene(0.9, 0.999, "linear")] = 0.95
    """Decay of the second moment."""
    eps: Annotated[float, Field(gt=0, le=1), FIXED] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[Decay, Gene(1e-3, 0.5, "scale")] = 0.1
    """Decoupled decay of matrices; never of embeddings and vectors."""

    def assign(self, weights: Mapping[str, Weight]) -> "dict[str, Rule]":
        """Two groups: with and without weight decay."""
        from evo.optimizers.adamw.rule import AdamW

        plain = AdamW(self.lr, self.beta1, self.beta2, self.eps)
        decayed = replace(plain, weight_decay=self.weight_decay)
        return {path: decayed if decays(weight) else plain for path, weight in weights.items()}
