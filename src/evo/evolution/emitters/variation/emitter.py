"""Mutation and crossover of elites."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.evolution.candidate import Candidate
from evo.evolution.crossover import cross
from evo.evolution.documents import document_of, plan_of
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
            is_thrifty = draw.child("thrift").numpy().random() < self.spec.thrift
            try:
                child = _child(situation, chosen, is_thrifty, draw)
            except NoChildError:
                continue
            return Offspring(child, tuple(parent.id for parent in chosen))
        return None

    def _parent(self, situation: Situation, stream: Stream) -> Candidate:
        index = self.spec.selection.pick(situation.breeders, stream)
        return situation.journal.candidate(situation.breeders.id(index))


def _child(situation: Situation, parents: list[Candidate], is_thrifty: bool, stream: Stream) -> Child:
    """A child of two parents by crossover, or of one by mutations, fewer as the search cools; one that is thrifty costs
    no more than the first."""
    documents = [document_of(parent.document) for parent in parents]
    most = plan_of(parents[0].document).flops_per_token if is_thrifty else math.inf

    def accepts(child: Child, plan: Plan) -> bool:
        return plan.flops_per_token <= most and situation.accepts(child, plan)

    if len(documents) == 2:
        return cross(documents[0], documents[1], stream.child("crossover"), accept=accepts)
    several = max(1, round(situation.evolve.mutations * situation.scale))
    count = 1 + int(stream.child("count").numpy().integers(several))
    return mutate(
        documents[0],
        stream.child("mutate"),
        mutations=count,
        scale=situation.scale,
        accept=accepts,
        operators=situation.operators(parents[0], stream.child("operators")),
        frozen=situation.frozen,
    )
