"""Random search: mutants of the seeds."""

from __future__ import annotations

from dataclasses import dataclass

from evo.base.streams import Stream
from evo.evolution.emitters.base import Offspring, Situation, mutant
from evo.evolution.emitters.random.spec import RandomSpec


@dataclass(frozen=True)
class Random:
    """Makes them."""

    spec: RandomSpec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        for attempt in range(self.spec.attempts):
            draw = stream.child("attempt", attempt)
            offspring = mutant(situation, situation.seed(draw), self.spec.mutations, draw)
            if offspring is not None:
                return offspring
        return None
