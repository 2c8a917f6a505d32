"""The two archives of a search and the temperature that moves the working one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evo.archive.annealing import mutation_scale
from evo.archive.cvt import CVTArchive
from evo.archive.rules import ELITIST, Annealed
from evo.archive.space import Space, make_space
from evo.base.streams import Stream
from evo.dsl.evolve import EvolveSpec
from evo.evolution.extension import generations_at
from evo.evolution.journal import Journal, Placed
from evo.evolution.probing import Sample
from evo.evolution.ranked import RankedArchive
from evo.evolution.standings import Standing, Standings
from evo.training.behaviour import MEASURES

SAMPLE = "sample"
"""The fact in the journal: what untrained mutants show."""
SPACE = "centroids"
"""The fact in the journal: the archives' measures, scales and cells."""


class Archives:
    """`working` may accept the worse while it is hot, and breeds; `result` is strictly elitist, and is reported.

    Where cells lie depends on how the seeds turn out, so until they are placed both are empty archives of one cell.
    standings: the latest of every candidate; their measures are those of the space, scaled.
    """

    def __init__(self, evolve: EvolveSpec, journal: Journal) -> None:
        self.evolve, self.journal = evolve, journal
        self.columns = [MEASURES.index(name) for name in evolve.measures]
        nowhere = [[0.0] * len(self.columns)]
        self.working, self.result = CVTArchive(nowhere), CVTArchive(nowhere)
        self.space: Space | None = None
        self.standings = Standings()
        self.improved: list[bool] = []

    def temperature(self, generation: int) -> float:
        """The temperature at which a generation is made and placed; the seeds and the first children have the start."""
        meant_for = generations_at(self.journal, generation, self.evolve.generations)
        return self.evolve.cooling.temperature(max(0, generation - 1), meant_for, self.improved)

    def mutation_scale(self, generation: int) -> float:
        """How large the mutations of a generation are, as a factor on their full size."""
        return mutation_scale(self.temperature(generation), self.temperature(0))

    def best(self) -> Standing | None:
        """The best objective of the highest rung that any candidate reached, the eldest among equals."""
        return next(iter(self.standings.leading(1)), None)

    def rivals(self, own: Standing) -> list[Standing]:
        """Whom a candidate would overtake as the best or in its cell, where they were judged at the same rung."""
        if self.space is None:
            return []
        (cell,) = self.result.cell_of(self._points([own])).tolist()
        elite, best = self.result.elite(cell), self.best()
        found = [best, None if elite is None else self.standings[str(elite.id)]]
        return [r for r in found if r is not None and r.id != own.id and r.trial.rung == own.trial.rung]

    def place(self, generation: int, standings: list[Standing]) -> list[Placed]:
        """Place a generation in both archives, in its order; the same numbers give the same placements."""
        self.space = self.space or self._open(standings)
        points = self._points(standings).tolist()
        standings = [replace(own, measures=tuple(at)) for own, at in zip(standings, points, strict=True)]
        for own, cell in zip(standings, self.result.cell_of(points).tolist() if points else (), strict=True):
            self.standings.note(own, cell)
        stream = Stream(self.evolve.seed).child("accept", generation)
        drawn = Annealed.drawn(self.temperature(generation), len(standings), stream)

        def annealed(places: list[int]) -> Annealed:
            return Annealed(drawn.temperature, tuple(drawn.uniforms[n] for n in places))

        working = RankedArchive("working", self.working).place(standings, self.standings, annealed)
        result = RankedArchive("result", self.result).place(standings, self.standings, lambda _: ELITIST)
        if generation:
            self.improved.append(any(row.status in ("new", "improved") for row in result[: len(standings)]))
        return working + result

    def _points(self, standings: list[Standing]) -> NDArray[np.float64]:
        """Where standings as they were measured lie in the space."""
        assert self.space is not None
        return self.space.scaled([[own.measures[column] for column in self.columns] for own in standings])

    def _open(self, seeds: list[Standing]) -> Space:
        """The space as the journal has it, or as it follows from the sample and the seeds, and empty archives in it."""
        saved = self.journal.fact(SPACE)
        self.space = self._made(seeds) if saved is None else Space.from_data(saved)
        if saved is None:
            self.journal.set_fact(SPACE, self.space.to_data())
        cells = self.space.scaled(self.space.centroids)
        self.working = CVTArchive(cells, learning_rate=self.evolve.thresholds)
        self.result = CVTArchive(cells)
        return self.space

    def _made(self, seeds: list[Standing]) -> Space:
        data = self.journal.fact(SAMPLE)
        expected = None if data is None else Sample.from_data(data).expected({own.id: own.measures for own in seeds})
        sample = None if expected is None else expected[:, self.columns]
        evolve, stream = self.evolve, Stream(self.evolve.seed).child("centroids")
        return make_space(evolve.centroids, evolve.measures, evolve.archive_cells, sample, stream)
