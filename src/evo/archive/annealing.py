"""Simulated annealing: temperature schedules, acceptance of the worse, size of mutations.

A temperature has the unit of the objective: at temperature T a variant that is worse by T enters an occupied cell with
probability 1/e (Kirkpatrick, Gelatt and Vecchi 1983). A schedule is a frozen value and its temperature a pure function
of the generation and of the history of improvements, so a resumed run replays the history and holds no other state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Schedule(Protocol):
    """How the temperature falls over a run."""

    @property
    def start(self) -> float:
        """The temperature T0 of generation 0, in units of the objective; at least 0."""
        ...

    def temperature(self, generation: int, improved: Sequence[bool] = ()) -> float:
        """The temperature of a generation.

        Args:
            generation: counted from 0; past the schedule's end the last temperature holds.
            improved: for each earlier generation, oldest first, whether it improved the result archive. Only adaptive
                schedules read it, and they read no more than the first `generation` entries.
        """
        ...


@dataclass(frozen=True)
class Linear:
    """T = T0 (1 - generation / generations): zero at the end, where acceptance is strictly elitist."""

    start: float
    generations: int

    def __post_init__(self) -> None:
        _check(self.start, self.generations)

    def temperature(self, generation: int, improved: Sequence[bool] = ()) -> float:
        """See `Schedule.temperature`."""
        return self.start * (1.0 - _progress(generation, self.generations))


@dataclass(frozen=True)
class Geometric:
    """T = T0 r^(generation / generations): falls by the factor `ratio` = T_end / T0 over the run and is never zero."""

    start: float
    generations: int
    ratio: float = 0.01

    def __post_init__(self) -> None:
        _check(self.start, self.generations)
        _check_share("ratio", self.ratio)

    def temperature(self, generation: int, improved: Sequence[bool] = ()) -> float:
        """See `Schedule.temperature`."""
        return self.start * self.ratio ** _progress(generation, self.generations)


@dataclass(frozen=True)
class Cosine:
    """T = T0 (1 + cos(pi generation / generations)) / 2: slow at both ends, zero at the end."""

    start: float
    generations: int

    def __post_init__(self) -> None:
        _check(self.start, self.generations)

    def temperature(self, generation: int, improved: Sequence[bool] = ()) -> float:
        """See `Schedule.temperature`."""
        return self.start * 0.5 * (1.0 + math.cos(math.pi * _progress(generation, self.generations)))


@dataclass(frozen=True)
class Reheating:
    """Cools by the factor `cooling` each generation and reheats a search that is stuck.

    After `patience` generations in a row without an improvement the next one starts at `reheat` T0 (or stays where it
    is, if that is hotter) and the count begins anew. Generations that `improved` does not hold count as improving.
    """

    start: float
    generations: int
    cooling: float = 0.8
    patience: int = 3
    reheat: float = 0.5

    def __post_init__(self) -> None:
        _check(self.start, self.generations)
        _check_share("cooling", self.cooling)
        _check_share("reheat", self.reheat)
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 generation, not {self.patience}")

    def temperature(self, generation: int, improved: Sequence[bool] = ()) -> float:
        """See `Schedule.temperature`."""
        temperature, stuck = self.start, 0
        for past in range(generation):
            stuck = 0 if past >= len(improved) or improved[past] else stuck + 1
            temperature *= self.cooling
            if stuck == self.patience:
                temperature, stuck = max(temperature, self.reheat * self.start), 0
        return temperature


SCHEDULES: dict[str, type[Linear] | type[Geometric] | type[Cosine] | type[Reheating]] = {
    "linear": Linear,
    "geometric": Geometric,
    "cosine": Cosine,
    "reheating": Reheating,
}


def acceptance_probability(deficit: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Metropolis' rule: 1 for the better, exp(-deficit / T) for the worse.

    Args:
        deficit: (...) how much worse than the incumbent, in units of the objective; negative means better.
        temperature: at least 0. At 0 only the strictly better is accepted, so that a tie keeps the elder; above 0 a
            tie is accepted, which lets a search drift along a plateau.

    Returns:
        (...) float64 in [0, 1].

    Raises:
        ValueError: a negative or non-finite temperature.
    """
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"a temperature is finite and at least 0, not {temperature}")
    deficits = np.asarray(deficit, dtype=np.float64)
    if temperature == 0.0:
        return (deficits < 0.0).astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):  # a tiny temperature overflows the ratio to inf: probability 0
        return np.exp(-np.maximum(deficits, 0.0) / temperature)


def mutation_scale(temperature: float, start: float, floor: float = 0.1) -> float:
    """How large mutations are at a temperature, as a factor on their full size.

    Falls in a straight line with T / T0 from 1 to `floor`: a hot search takes whole steps through a gene's range, a
    cold one refines. Hotter than T0 counts as T0; a schedule that starts at 0 (no annealing) leaves mutations whole.

    Returns:
        A factor in [floor, 1].
    """
    if start <= 0.0:
        return 1.0
    return floor + (1.0 - floor) * min(max(temperature / start, 0.0), 1.0)


def _progress(generation: int, generations: int) -> float:
    return min(max(generation / generations, 0.0), 1.0)


def _check(start: float, generations: int) -> None:
    if not 0.0 <= start < math.inf:
        raise ValueError(f"a start temperature is finite and at least 0, not {start}")
    if generations < 1:
        raise ValueError(f"a schedule runs for at least 1 generation, not {generations}")


def _check_share(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ValueError(f"{name} lies in (0, 1], not {value}")
