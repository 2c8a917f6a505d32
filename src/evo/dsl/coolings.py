"""The temperature over a search: what each kind of cooling is called, what it reads, and what it means.

A temperature has the unit of the objective: at temperature T a variant that is worse by T enters an occupied cell with
probability 1/e (Kirkpatrick, Gelatt and Vecchi 1983). It is a pure function of the generation and of the history of
improvements, so a resumed run replays the history and holds no other state.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.spec import Spec

Share = Annotated[float, Field(gt=0, le=1)]


class CoolingSpec(Spec):
    """A temperature over the generations."""

    @abstractmethod
    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """The temperature of a generation, in units of the objective; at least 0.

        Args:
            generation: counted from 0; past `generations` the last temperature holds.
            generations: the length of the search.
            improved: for each earlier generation, oldest first, whether it improved the result archive. Only adaptive
                kinds read it, and they read no more than the first `generation` entries.
        """


class StartedCooling(CoolingSpec):
    """A cooling that falls from a temperature the user states."""

    start: Annotated[float, Field(gt=0, le=100)] = 0.05
    """The temperature of generation 0, in units of fitness."""


class LinearCooling(StartedCooling):
    """T = start (1 - generation / generations)."""

    kind: ClassVar[str | None] = "linear"

    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """Zero at the end, where acceptance is strictly elitist; see `CoolingSpec.temperature`."""
        return self.start * (1.0 - _progress(generation, generations))


class GeometricCooling(StartedCooling):
    """T = start * ratio^(generation / generations)."""

    kind: ClassVar[str | None] = "geometric"

    ratio: Share = 0.01
    """The last temperature as a share of the first."""

    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """Never zero; see `CoolingSpec.temperature`."""
        return self.start * self.ratio ** _progress(generation, generations)


class CosineCooling(StartedCooling):
    """Half a cosine from start to zero."""

    kind: ClassVar[str | None] = "cosine"

    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """Slow at both ends, zero at the end; see `CoolingSpec.temperature`."""
        return self.start * 0.5 * (1.0 + math.cos(math.pi * _progress(generation, generations)))


class ReheatingCooling(StartedCooling):
    """Geometric cooling that heats up again when the best has not improved for a while."""

    kind: ClassVar[str | None] = "reheating"

    cooling: Share = 0.8
    """The factor by which each generation cools."""
    patience: Annotated[int, Field(ge=1)] = 3
    """Generations without improvement before reheating."""
    reheat: Share = 0.5
    """The temperature after reheating, as a share of start."""

    def temperature(self, generation: int, generations: int, improved: Sequence[bool] = ()) -> float:
        """Cools by `cooling` each generation; see `CoolingSpec.temperature`.

        After `patience` generations in a row without an improvement the next one starts at `reheat` times the start
        (or stays where it is, if that is hotter) and the count begins anew. Generations that `improved` does not hold
        count as improving.
        """
        temperature, stuck = self.start, 0
        for past in range(generation):
            stuck = 0 if past >= len(improved) or improved[past] else stuck + 1
            temperature *= self.cooling
            if stuck == self.patience:
                temperature, stuck = max(temperature, self.reheat * self.start), 0
        return temperature


def _progress(generation: int, generations: int) -> float:
    return min(max(generation / generations, 0.0), 1.0)
