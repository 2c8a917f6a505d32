"""Simulated annealing: acceptance of the worse and size of mutations at a temperature.

A temperature has the unit of the objective: at temperature T a variant that is worse by T enters an occupied cell with
probability 1/e (Kirkpatrick, Gelatt and Vecchi 1983). How it falls over a search, `evo.dsl.coolings` says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


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
    cold one refines. Hotter than T0 counts as T0; a cooling that starts at 0 (no annealing) leaves mutations whole.

    Returns:
        A factor in [floor, 1].
    """
    if start <= 0.0:
        return 1.0
    return floor + (1.0 - floor) * min(max(temperature / start, 0.0), 1.0)
