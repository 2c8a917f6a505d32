"""What every emitter is: it sees the search as it stands, and makes one child at a time."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from evo.archive.cvt import CVTArchive
from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.dsl.emitter import EmitterSpec
from evo.dsl.evolve import EvolveSpec
from evo.dsl.operators import Made
from evo.evolution.breeders import ArchiveBreeders
from evo.evolution.candidate import Candidate
from evo.evolution.cost_range import CostRange
from evo.evolution.credit import history, odds
from evo.evolution.documents import document_of
from evo.evolution.frozen import Frozen
from evo.evolution.journal import Journal
from evo.evolution.mutate import Child, NoChildError, Odds, mutate
from evo.evolution.trial import WeightsRef


@dataclass(frozen=True)
class Situation:
    """A search as it stands before a child is made.

    archive: the working one, never empty. journal: every candidate and every evaluation so far. costs: those that a
    child may have. scale: how large mutations are, in (0, 1]. known: content hashes that exist.
    """

    evolve: EvolveSpec
    archive: CVTArchive
    journal: Journal
    costs: CostRange
    scale: float
    known: set[str]

    def accepts(self, child: Child, plan: Plan) -> bool:
        """Whether a child is new, costs what it may, and is as a seed is where the search keeps still."""
        return self.costs.holds(plan) and child.hash not in self.known and self.frozen.allows(child.document)

    @cached_property
    def frozen(self) -> Frozen:
        """What the search keeps still."""
        return Frozen(self.evolve.freeze, [document_of(seed.document) for seed in self.journal.candidates(0)])

    @cached_property
    def breeders(self) -> ArchiveBreeders:
        """The elites of the working archive."""
        return ArchiveBreeders(self.archive, self.journal)

    @cached_property
    def _history(self) -> list[Made]:
        return history(self.journal)

    def operators(self, parent: Candidate, stream: Stream) -> Odds:
        """The operators for one child of an elite, with how often each is tried first: as the search chooses them."""
        spec = self.evolve.operators
        return odds(spec, self._history if spec.learns else [], parent, stream)

    @cached_property
    def scored(self) -> list[tuple[str, float]]:
        """Every candidate that has an objective, and it, in the order in which they were made."""
        refs = ((id, self.journal.rung(id)) for id in (candidate.id for candidate in self.journal.candidates()))
        found = ((id, self.journal.terms(WeightsRef(id, rung))) for id, rung in refs if rung is not None)
        return [(id, terms.objective) for id, terms in found if terms is not None]

    def seed(self, stream: Stream) -> Candidate:
        """One of the seeds, drawn uniformly."""
        seeds = self.journal.candidates(0)
        return seeds[int(stream.child("seed").numpy().integers(len(seeds)))]


@dataclass(frozen=True)
class Offspring:
    """A child with the ids of its parents; its patch is from the first."""

    child: Child
    parents: tuple[str, ...]


class Emitter(Protocol):
    """A source of children."""

    def emit(self, situation: Situation, stream: Stream) -> Offspring | None:
        """An acceptable child, or None if none was found: a pure function of its arguments."""
        ...


def mutant(situation: Situation, parent: Candidate, most: int, stream: Stream) -> Offspring | None:
    """A child of 1 to `most` mutations of full size, or None if none was found."""
    count = 1 + int(stream.child("count").numpy().integers(most))
    document = document_of(parent.document)
    drawn, frozen = stream.child("mutate"), situation.frozen
    try:
        child = mutate(document, drawn, mutations=count, accept=situation.accepts, frozen=frozen)
    except NoChildError:
        return None
    return Offspring(child, (parent.id,))


def make_emitter(spec: EmitterSpec) -> Emitter:
    """The emitter of a spec."""
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec)
