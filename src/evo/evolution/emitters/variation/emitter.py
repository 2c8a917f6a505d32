"""Mutation and crossover of elites."""

from __future__ import annotations

from dataclasses import dataclass

from evo.base.streams import Stream
from evo.evolution.candidate import Candidate
from evo.evolution.crossover import cross
from evo.evolution.documents import document_of
from evo.evolution.emitters.base import Offspring, Situation
from evo.evolution.emitters.variation.spec import BreedingSpec
from evo.evolution.mutate import Child, NoChildError, mutate


@dataclass(frozen=True)
class Variation:
    """Makes children of elites: of two with the share of crossover that its spec says, otherwise of one."""

    spec: BreedingSpec

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """See `Emitter.emit`."""
        for attempt in range(self.spec.attempts):
            draw = stream.child("attempt", attempt)
            parents = [self._parent(situation, draw.child("parent", side)) for side in range(2)]
            share = draw.child("cross").numpy().random()
            crosses = parents[0].id != parents[1].id and share < self.spec.share(situation.evolve)
            chosen = parents if crosses else parents[:1]
            try:
                child = _child(situation, chosen, draw)
            except NoChildError:
                continue
            return Offspring(child, tuple(parent.id for parent in chosen))
        return None

    def _parent(self, situation: Situation, stream: Stream) -> Candidate:
        index = self.spec.selection.pick(situation.breeders, stream)
        return situation.journal.candidate(situation.breeders.id(index))


def _child(situation: Situation, parents: list[Candidate], stream: Stream) -> Child:
    """A child of two parents by crossover, or of one by mutations, fewer as the search cools."""
    documents = [document_of(parent.document) for parent in parents]
    if len(documents) == 2:
        return cross(documents[0], documents[1], stream.child("crossover"), accept=situation.accepts)
    most = max(1, round(situation.evolve.mutations * situation.scale))
    count = 1 + int(stream.child("count").numpy().integers(most))
    return mutate(
        documents[0],
        stream.child("mutate"),
        mutations=count,
        scale=situation.scale,
        accept=situation.accepts,
        operators=situation.operators(parents[0], stream.child("operators")),
    )
