"""The data of an archive: one elite a cell, in arrays that share the cell's index. No rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Identity = str | int


@dataclass(frozen=True)
class Elite:
    """The occupant of a cell. `id` is the caller's name for it, opaque here."""

    cell: int
    id: Identity
    objective: float
    measures: tuple[float, ...]


@dataclass(frozen=True)
class Statistics:
    """An archive in numbers.

    `coverage` is the share of cells that are occupied; `qd_score` the sum of (objective - offset) over the elites;
    `objective_max` and `objective_argmax` are the best that ever entered, even where a rule let something worse replace
    it since, and its identity. The last three are None in an archive that never held an elite (the mean: holds none).
    """

    elites: int
    coverage: float
    qd_score: float
    objective_mean: float | None
    objective_max: float | None
    objective_argmax: Identity | None


class EliteStore:
    """Elites by cell, and the best that ever entered.

    Attributes:
        occupied_C: (cells,) bool.
        objectives_C: (cells,) float64, -inf where empty.
        measures_CM: (cells, measures) float64, NaN where empty.
        ids_C: the identity by cell, None where empty.
        thresholds_C: (cells,) float64, what a candidate must exceed where thresholds are learned.
        best: the first of the highest objective that ever entered, or None.
    """

    def __init__(self, cells: int, measures: int, threshold: float = 0.0) -> None:
        self.thresholds_C: NDArray[np.float64] = np.full(cells, threshold)
        self.occupied_C: NDArray[np.bool_] = np.zeros(cells, dtype=np.bool_)
        self.objectives_C: NDArray[np.float64] = np.full(cells, -np.inf)
        self.measures_CM: NDArray[np.float64] = np.full((cells, measures), np.nan)
        self.ids_C: NDArray[np.object_] = np.full(cells, None, dtype=object)
        self.best: Elite | None = None

    def put(self, elite: Elite) -> None:
        """Put an elite into its cell, whoever held it; it becomes the best only where it is strictly better."""
        self.occupied_C[elite.cell] = True
        self.objectives_C[elite.cell] = elite.objective
        self.measures_CM[elite.cell] = elite.measures
        self.ids_C[elite.cell] = elite.id
        if self.best is None or elite.objective > self.best.objective:
            self.best = elite

    def put_all(
        self,
        cells_W: NDArray[np.int64],
        ids: list[Identity],
        objectives_W: NDArray[np.float64],
        measures_WM: NDArray[np.float64],
    ) -> None:
        """Put one elite each into distinct cells, as `put` would in this order."""
        if not len(cells_W):
            return
        self.occupied_C[cells_W] = True
        self.objectives_C[cells_W] = objectives_W
        self.measures_CM[cells_W] = measures_WM
        self.ids_C[cells_W] = ids
        first = int(objectives_W.argmax())
        if self.best is None or float(objectives_W[first]) > self.best.objective:
            self.best = self.elite(int(cells_W[first]))

    def remove(self, identity: Identity) -> int | None:
        """Empty the cell that an identity holds and return it, or None."""
        occupied = np.flatnonzero(self.occupied_C)
        held = occupied[self.ids_C[occupied] == identity]
        if not len(held):
            return None
        cell = int(held[0])
        self.occupied_C[cell] = False
        self.objectives_C[cell] = -np.inf
        self.measures_CM[cell] = np.nan
        self.ids_C[cell] = None
        return cell

    def elite(self, cell: int) -> Elite | None:
        """The occupant of a cell, or None."""
        identity = self.ids_C[cell]
        if identity is None:
            return None
        return Elite(cell, identity, float(self.objectives_C[cell]), tuple(self.measures_CM[cell].tolist()))

    def elites(self) -> tuple[Elite, ...]:
        """All elites, by cell."""
        found = (self.elite(cell) for cell in np.flatnonzero(self.occupied_C).tolist())
        return tuple(elite for elite in found if elite is not None)

    def statistics(self, offset: float) -> Statistics:
        """The archive in numbers; sums are exact, so they do not depend on the order of arrival."""
        objectives = self.objectives_C[self.occupied_C].tolist()
        total, count = math.fsum(objectives), len(objectives)
        return Statistics(
            elites=count,
            coverage=count / len(self.occupied_C),
            qd_score=total - count * offset,
            objective_mean=total / count if count else None,
            objective_max=self.best.objective if self.best else None,
            objective_argmax=self.best.id if self.best else None,
        )

    def to_data(self) -> dict[str, Any]:
        """Plain data (lists, text, numbers) that JSON writes and reads back exactly."""
        return {
            "elites": [_elite_to_data(elite) for elite in self.elites()],
            "best": _elite_to_data(self.best) if self.best else None,
            "thresholds": self.thresholds_C.tolist(),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any], cells: int, measures: int) -> EliteStore:
        """The inverse of `to_data`; KeyError, TypeError, ValueError or IndexError where data has another form."""
        store = cls(cells, measures)
        for row in data["elites"]:
            store.put(_elite_from_data(row, cells, measures))
        thresholds = np.array(data["thresholds"], dtype=np.float64)
        if thresholds.shape != (cells,) or not np.isfinite(thresholds).all():
            raise ValueError(f"{cells} cells have as many thresholds, not {thresholds.shape}")
        store.thresholds_C = thresholds
        store.best = _elite_from_data(data["best"], cells, measures) if data["best"] is not None else None
        return store


def _elite_to_data(elite: Elite) -> list[Any]:
    return [elite.cell, elite.id, elite.objective, list(elite.measures)]


def _elite_from_data(row: list[Any], cells: int, measures: int) -> Elite:
    cell, identity, objective, point = row
    if type(cell) is not int or not 0 <= cell < cells:
        raise ValueError(f"cell {cell!r} is not one of the archive's {cells}")
    if type(identity) not in (str, int):
        raise ValueError(f"cell {cell}: an identity is text or an integer, not {identity!r}")
    if len(point) != measures:
        raise ValueError(f"cell {cell}: {len(point)} measures, expected {measures}")
    return Elite(cell, identity, float(objective), tuple(float(value) for value in point))
