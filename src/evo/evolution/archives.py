"""The two archives of a search and the temperature that moves the working one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evo.archive.annealing import mutation_scale
from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive, Placement
from evo.archive.rules import ELITIST, Annealed
from evo.base.streams import Stream
from evo.dsl.evolve import EvolveSpec
from evo.evolution.journal import Journal, Placed
from evo.evolution.trial import WeightsRef
from evo.training.behaviour import MEASURES


@dataclass(frozen=True)
class Standing:
    """A scored trial as an archive sees it."""

    trial: WeightsRef
    objective: float
    measures: tuple[float, ...]


class Archives:
    """`working` may accept the worse while it is hot, and breeds; `result` is strictly elitist, and is reported."""

    def __init__(self, evolve: EvolveSpec, journal: Journal) -> None:
        self.evolve = evolve
        cells = _centroids(evolve, journal)
        self.working, self.result = CVTArchive(cells), CVTArchive(cells)
        self.improved: list[bool] = []

    def temperature(self, generation: int) -> float:
        """The temperature at which a generation is made and placed; the seeds and the first children have the start."""
        return self.evolve.cooling.temperature(max(0, generation - 1), self.evolve.generations, self.improved)

    def mutation_scale(self, generation: int) -> float:
        """How large the mutations of a generation are, as a factor on their full size."""
        return mutation_scale(self.temperature(generation), self.temperature(0))

    def place(self, generation: int, standings: list[Standing]) -> list[Placed]:
        """Place a generation in both archives, in its order; the same numbers give the same placements."""
        ids = [standing.trial.candidate for standing in standings]
        objectives = [standing.objective for standing in standings]
        measures = [standing.measures for standing in standings]
        stream = Stream(self.evolve.seed).child("accept", generation)
        annealed = Annealed.drawn(self.temperature(generation), len(ids), stream)
        working = self.working.add(ids, objectives, measures, annealed)
        result = self.result.add(ids, objectives, measures, ELITIST)
        if generation:
            self.improved.append(any(placement.status in ("new", "improved") for placement in result))
        refs = [standing.trial for standing in standings]
        return _placed(refs, "working", working) + _placed(refs, "result", result)


def _centroids(evolve: EvolveSpec, journal: Journal) -> Any:
    saved = journal.fact("centroids")
    if saved is None:
        stream = Stream(evolve.seed).child("centroids")
        saved = centroids(evolve.cells, [(0.0, 1.0)] * len(MEASURES), stream).tolist()
        journal.set_fact("centroids", saved)
    return saved


def _placed(refs: list[WeightsRef], archive: str, placements: tuple[Placement, ...]) -> list[Placed]:
    pairs = zip(refs, placements, strict=True)
    return [Placed(ref, archive, p.cell, p.status, p.value, p.is_elite) for ref, p in pairs]
