"""The two archives of a search and the temperature that moves the working one."""

from __future__ import annotations

from typing import Any

from evo.archive.annealing import mutation_scale
from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive
from evo.archive.rules import ELITIST, Annealed
from evo.base.streams import Stream
from evo.dsl.evolve import EvolveSpec
from evo.evolution.journal import Journal, Placed
from evo.evolution.ranked import RankedArchive, Standing
from evo.training.behaviour import MEASURES


class Archives:
    """`working` may accept the worse while it is hot, and breeds; `result` is strictly elitist, and is reported.

    standings: the latest of every candidate, in the order in which they were first placed.
    """

    def __init__(self, evolve: EvolveSpec, journal: Journal) -> None:
        self.evolve = evolve
        cells = _centroids(evolve, journal)
        self.working, self.result = CVTArchive(cells), CVTArchive(cells)
        self.standings: dict[str, Standing] = {}
        self.improved: list[bool] = []

    def temperature(self, generation: int) -> float:
        """The temperature at which a generation is made and placed; the seeds and the first children have the start."""
        return self.evolve.cooling.temperature(max(0, generation - 1), self.evolve.generations, self.improved)

    def mutation_scale(self, generation: int) -> float:
        """How large the mutations of a generation are, as a factor on their full size."""
        return mutation_scale(self.temperature(generation), self.temperature(0))

    def best(self) -> Standing | None:
        """The best objective of the highest rung that any candidate reached, the eldest among equals."""
        by_rung = lambda own: (own.trial.rung, own.objective)  # noqa: E731
        return max(self.standings.values(), key=by_rung, default=None)

    def place(self, generation: int, standings: list[Standing]) -> list[Placed]:
        """Place a generation in both archives, in its order; the same numbers give the same placements."""
        self.standings |= {own.id: own for own in standings}
        stream = Stream(self.evolve.seed).child("accept", generation)
        drawn = Annealed.drawn(self.temperature(generation), len(standings), stream)

        def annealed(places: list[int]) -> Annealed:
            return Annealed(drawn.temperature, tuple(drawn.uniforms[n] for n in places))

        working = RankedArchive("working", self.working).place(standings, self.standings, annealed)
        result = RankedArchive("result", self.result).place(standings, self.standings, lambda _: ELITIST)
        if generation:
            self.improved.append(any(row.status in ("new", "improved") for row in result[: len(standings)]))
        return working + result


def _centroids(evolve: EvolveSpec, journal: Journal) -> Any:
    saved = journal.fact("centroids")
    if saved is None:
        stream = Stream(evolve.seed).child("centroids")
        saved = centroids(evolve.cells, [(0.0, 1.0)] * len(MEASURES), stream).tolist()
        journal.set_fact("centroids", saved)
    return saved
