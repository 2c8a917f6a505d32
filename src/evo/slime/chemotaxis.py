"""Chemotaxis: nutrient sources in behaviour space, and where a hungry organism turns next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo.base.streams import Stream

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Source:
    """A nutrient: something worth moving towards, at a place of behaviour space."""

    nutrient: str
    location_M: Floats
    concentration: float


class Chemotaxis:
    """Sources by concentration; their smell falls with distance, and what eats nearby has taken its share.

    A source smells exp(-metabolic_rate * distance) * concentration at a behaviour: a fast metabolism only reaches what
    is near. Hunger in [0, 1] flattens the choice between smells: the sated take the strongest, the starving any.
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def add_source(self, nutrient: str, location: Floats, concentration: float) -> None:
        """Put a source somewhere. Raises ValueError for a concentration that is negative or not finite."""
        if not 0.0 <= concentration < np.inf:
            raise ValueError(f"a concentration is finite and at least 0, not {concentration}")
        self.sources.append(Source(nutrient, np.asarray(location, dtype=np.float64), concentration))

    def smells(self, behaviour: Floats, metabolic_rate: float) -> Floats:
        """What each source smells like at a behaviour (M,), in their order."""
        if not self.sources:
            return np.zeros(0)
        locations_SM = np.stack([source.location_M for source in self.sources])
        concentrations_S = np.array([source.concentration for source in self.sources])
        return concentrations_S * np.exp(-metabolic_rate * np.linalg.norm(locations_SM - behaviour, axis=1))

    def sample(self, behaviour: Floats, metabolic_rate: float, hunger: float, stream: Stream) -> Source | None:
        """The source to turn to; None where nothing smells. Drawn with shares smell ** ((1 - hunger) / hunger)."""
        smells_S = self.smells(behaviour, metabolic_rate)
        if not smells_S.any():
            return None
        if hunger <= 0.0:
            return self.sources[int(smells_S.argmax())]
        hunger = min(hunger, 1.0)
        weights_S = (smells_S / smells_S.max()) ** ((1.0 - hunger) / hunger) * (smells_S > 0)
        index = int(np.searchsorted(np.cumsum(weights_S), stream.numpy().random() * weights_S.sum(), side="right"))
        return self.sources[min(index, len(self.sources) - 1)]

    def clear(self) -> None:
        """Forget all sources."""
        self.sources.clear()
