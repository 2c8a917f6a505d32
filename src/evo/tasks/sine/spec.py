"""Sines from a few points, as a document names them. Finn, Abbeel and Levine 2017 (https://arxiv.org/abs/1703.03400)."""

from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import FIXED
from evo.dsl.task import Score
from evo.tasks.synthetic_spec import SyntheticSpec


class SineSpec(SyntheticSpec):
    """Points x, y of a sine in turn, A sin(x - phase); each x asks for its y, scored by the mean squared error.

    A is uniform in [0.1, 5], the phase in [0, pi], x in [-5, 5], for each sequence anew. Both axes are cut into levels,
    a symbol each; the prediction is the mean of the levels by probability. Every y is trained and scored.
    """

    kind: ClassVar[str | None] = "sine"
    builder: ClassVar[str] = "evo.tasks.sine.task:SineTask"

    levels: Annotated[int, Field(ge=2, le=4_096), FIXED] = 64
    """Levels of an axis."""

    @property
    def primary(self) -> Score:  # pyright: ignore[reportIncompatibleVariableOverride] - as the base
        """The mean squared error; predicting 0 has E[A^2] / 2."""
        uniform = (5**3 - 0.1**3) / 3 / 4.9 / 2
        return Score("mean_squared_error", lower_is_better=True, uniform=uniform, unit="squared error")

    @property
    def smallest_vocab(self) -> int:
        """The levels of x, then those of y."""
        return 2 * self.levels
