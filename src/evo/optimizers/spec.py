"""What every optimizer's spec is, and which weights decay."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from evo.dsl.plan import Weight
from evo.dsl.spec import Spec

if TYPE_CHECKING:
    from evo.optimizers.rule import Rule

Beta = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Decay = Annotated[float, Field(ge=0, le=10)]

DECAYING = frozenset({"matrix", "readout", "taps"})
"""Groups of weights that weight decay reaches: maps and taps; never tables that are looked up, gains, biases, rates."""


class OptimizerSpec(Spec):
    """A rule that updates weights."""

    @abstractmethod
    def assign(self, weights: Mapping[str, Weight]) -> "Mapping[str, Rule]":
        """The rule of each weight, by path: every path once. Parameters whose rules are equal are one group.

        Decides by what a weight declares (group, axes, shape), never by its path. This is where torch is loaded.
        """

    def step_flops(self, weights: Mapping[str, Weight]) -> float:
        """Operations of the matrix products that an update of these weights takes, which a training's compute counts
        like those of its passes. What an optimizer does element by element is left out there."""
        del weights
        return 0.0


def decays(weight: Weight) -> bool:
    """Whether weight decay reaches a weight."""
    return weight.group in DECAYING
