"""Regularised evolution: the young breed and the oldest die."""

from __future__ import annotations

from dataclasses import dataclass

from evo.base.streams import Stream
from evo.evolution.candidate import Candidate
from evo.evolution.emitters.aging.spec import AgingSpec
from evo.evolution.emitters.base import Offspring, Situation, mutant


@dataclass(frozen=True)
class Aging:
    """Breeds them. A generation's children do not know one another, as with so many workers at once."""

    spec: AgingSpec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        for attempt in range(self.spec.attempts):
            draw = stream.child("attempt", attempt)
            living = situation.scored[-self.spec.size :]
            is_founder = len(living) < self.spec.size
            parent = situation.seed(draw) if is_founder else self._parent(situation, living, draw)
            offspring = mutant(situation, parent, self.spec.founders if is_founder else 1, draw)
            if offspring is not None:
                return offspring
        return None

    def _parent(self, situation: Situation, living: list[tuple[str, float]], stream: Stream) -> Candidate:
        drawn = stream.child("sample").numpy().integers(len(living), size=self.spec.sample)
        best, _ = max((living[index] for index in drawn.tolist()), key=lambda row: row[1])
        return situation.journal.candidate(best)
