"""Rules of acceptance: which candidates may take a cell from its incumbent.

A rule sees numbers only. The archive resolves conflicts inside a batch (the best accepted candidate of a cell enters),
so the two archives of a search share one store and differ in one argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evo.archive.annealing import acceptance_probability
from evo.base.streams import Stream


class Rule(Protocol):
    """Says which candidates may enter."""

    def accepts(self, objectives_B: NDArray[np.float64], incumbents_B: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of B candidates may enter, given the objectives of their cells' incumbents (-inf: an empty cell)."""
        ...


@dataclass(frozen=True)
class Elitist:
    """Only the strictly better enters (Mouret and Clune 2015): a tie keeps the elder. The result archive's rule."""

    def accepts(self, objectives_B: NDArray[np.float64], incumbents_B: NDArray[np.float64]) -> NDArray[np.bool_]:
        """See `Rule.accepts`."""
        return objectives_B > incumbents_B


@dataclass(frozen=True)
class Annealed:
    """The worse enters with probability exp(-deficit / temperature). The working archive's rule.

    `uniforms` holds one number in [0, 1) for each candidate of the batch, in its order; a candidate enters where its
    number is below its probability, so a placement repeats exactly from the recorded numbers.
    """

    temperature: float
    uniforms: tuple[float, ...]

    @classmethod
    def drawn(cls, temperature: float, count: int, stream: Stream) -> Annealed:
        """The rule for a batch of `count` candidates with numbers drawn from a stream."""
        return cls(temperature, tuple(stream.numpy().random(count).tolist()))

    def accepts(self, objectives_B: NDArray[np.float64], incumbents_B: NDArray[np.float64]) -> NDArray[np.bool_]:
        """See `Rule.accepts`. Raises ValueError unless there is one uniform number for each candidate."""
        if len(self.uniforms) != len(objectives_B):
            raise ValueError(f"{len(objectives_B)} candidates need as many uniform numbers, not {len(self.uniforms)}")
        return np.asarray(self.uniforms) < acceptance_probability(incumbents_B - objectives_B, self.temperature)


ELITIST = Elitist()
