"""CVT-MAP-Elites archive: the best variant of each Voronoi cell of the measure space.

Vassiliades, Chatzilygeroudis and Mouret 2018 (https://arxiv.org/abs/1610.05729). Batches, ties, offset and errors are
those of `ribs.archives.CVTArchive` with its default learning rate; a test holds the two side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from evo.archive.rules import ELITIST, Rule
from evo.archive.store import Elite, EliteStore, Identity, Statistics
from evo.base.streams import Stream

VERSION = 1

Status = Literal["new", "improved", "accepted", "rejected"]


@dataclass(frozen=True)
class Placement:
    """What an archive made of one candidate, judged against the archive as it stood before the batch.

    `status` is "new" (the cell was empty), "improved" (better than the incumbent), "accepted" (not better, but the rule
    let it in) or "rejected". `value` is the objective where the cell was empty and the objective minus the incumbent's
    elsewhere, so a negative value is the deficit. `is_elite` says whether the candidate holds the cell after the batch:
    of several that may enter one cell only the best does. `displaced` is the incumbent that this elite replaced.
    """

    id: Identity
    cell: int
    status: Status
    value: float
    is_elite: bool
    displaced: Identity | None

    @property
    def deficit(self) -> float:
        """How much worse than the incumbent, in units of the objective; 0 for the better and for empty cells."""
        return max(0.0, -self.value) if self.status in ("accepted", "rejected") else 0.0


class CVTArchive:
    """Elites by the centroid nearest to their measures.

    Args:
        centroids: (cells, measures), finite; see `evo.archive.centroids`.
        offset: subtracted from each objective in the QD score, so that filling a cell never lowers it: the lowest
            objective there can be.

    Raises:
        ValueError: centroids that are not a finite matrix with a row and a column, or an offset that is not finite.
    """

    def __init__(self, centroids: ArrayLike, offset: float = 0.0) -> None:
        self.centroids_CM: NDArray[np.float64] = np.array(centroids, dtype=np.float64)
        if self.centroids_CM.ndim != 2 or 0 in self.centroids_CM.shape or not np.isfinite(self.centroids_CM).all():
            raise ValueError(f"centroids must be finite, (cells, measures), not of shape {self.centroids_CM.shape}")
        if not np.isfinite(offset):
            raise ValueError(f"the offset must be finite, not {offset}")
        self.centroids_CM.flags.writeable = False
        self.offset = float(offset)
        self._tree = KDTree(self.centroids_CM)
        self._store = EliteStore(*self.centroids_CM.shape)

    def __len__(self) -> int:
        """The number of occupied cells."""
        return int(self._store.occupied_C.sum())

    @property
    def cells(self) -> int:
        """The number of cells."""
        return len(self.centroids_CM)

    @property
    def best(self) -> Elite | None:
        """The best that ever entered (the first, among equals), or None."""
        return self._store.best

    def cell_of(self, measures_BM: ArrayLike) -> NDArray[np.int64]:
        """The cells (B,) of the centroids nearest to (B, M) measures, which may lie outside all bounds.

        Raises:
            ValueError: measures of another shape, or not finite.
        """
        points_BM = np.asarray(measures_BM, dtype=np.float64)
        if points_BM.ndim != 2 or points_BM.shape[1] != self.centroids_CM.shape[1]:
            raise ValueError(f"measures must have shape (batch, {self.centroids_CM.shape[1]}), not {points_BM.shape}")
        _check_finite("measures", points_BM)
        return np.asarray(self._tree.query(points_BM)[1], dtype=np.int64)

    def add(
        self, ids: Sequence[Identity], objectives_B: ArrayLike, measures_BM: ArrayLike, rule: Rule = ELITIST
    ) -> tuple[Placement, ...]:
        """Place a batch. Of the candidates that the rule lets into one cell the best enters, the first among equals.

        Args:
            ids: B names, opaque, need not be distinct.
            objectives_B: (B,) higher is better, finite. A candidate without a score (it diverged) is not added.
            measures_BM: (B, M) finite; points outside the bounds belong to the nearest cell.
            rule: who may enter an occupied cell.

        Returns:
            B placements in the order of the batch.

        Raises:
            ValueError: lengths that differ, or objectives or measures with NaN or infinity; nothing is placed then.
        """
        scores_B, points_BM = self._batch(len(ids), objectives_B, measures_BM)
        cells_B = self.cell_of(points_BM)
        accepted_B = rule.accepts(scores_B, self._store.objectives_C[cells_B])
        winners = _winners(cells_B, scores_B, accepted_B)
        holds = set(winners)
        placements = tuple(
            self._placement(ids[i], int(cells_B[i]), float(scores_B[i]), bool(accepted_B[i]), i in holds)
            for i in range(len(ids))
        )
        for i in winners:
            self._store.put(Elite(int(cells_B[i]), ids[i], float(scores_B[i]), tuple(points_BM[i].tolist())))
        return placements

    def remove(self, identity: Identity) -> int | None:
        """Empty the cell that a candidate holds, and return it; None where it holds none. `best` stays what it was."""
        return self._store.remove(identity)

    def elite(self, cell: int) -> Elite | None:
        """The occupant of a cell, or None."""
        return self._store.elite(cell)

    def elites(self) -> tuple[Elite, ...]:
        """All elites, by cell."""
        return self._store.elites()

    def statistics(self) -> Statistics:
        """Coverage, QD score, mean and best objective."""
        return self._store.statistics(self.offset)

    def select(self, count: int, stream: Stream) -> tuple[Elite, ...]:
        """`count` elites, each drawn uniformly over the occupied cells, with replacement.

        Raises:
            IndexError: an empty archive.
        """
        elites = self.elites()
        if not elites:
            raise IndexError("nothing to select: the archive is empty")
        return tuple(elites[i] for i in stream.numpy().integers(len(elites), size=count).tolist())

    def to_data(self) -> dict[str, Any]:
        """Plain data (mappings, lists, text, numbers) that JSON writes and reads back exactly."""
        return {
            "version": VERSION,
            "offset": self.offset,
            "centroids": self.centroids_CM.tolist(),
            **self._store.to_data(),
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> CVTArchive:
        """The inverse of `to_data`.

        Raises:
            ValueError: data of another form or version.
        """
        try:
            if data["version"] != VERSION:
                raise ValueError(f"archive data of version {data['version']!r}; this program reads {VERSION}")
            archive = cls(data["centroids"], data["offset"])
            archive._store = EliteStore.from_data(data, *archive.centroids_CM.shape)
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not the data of an archive: {type(error).__name__} {error}") from error
        return archive

    def _batch(
        self, count: int, objectives_B: ArrayLike, measures_BM: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scores_B = np.asarray(objectives_B, dtype=np.float64)
        points_BM = np.asarray(measures_BM, dtype=np.float64)
        if points_BM.size == 0:
            points_BM = points_BM.reshape(0, self.centroids_CM.shape[1])
        if scores_B.shape != (count,):
            raise ValueError(f"{count} ids need objectives of shape ({count},), not {scores_B.shape}")
        if len(points_BM) != count:
            raise ValueError(f"{count} ids need as many rows of measures, not {len(points_BM)}")
        _check_finite("objectives", scores_B)
        return scores_B, points_BM

    def _placement(self, identity: Identity, cell: int, score: float, accepted: bool, is_elite: bool) -> Placement:
        incumbent = self._store.elite(cell)
        displaced = incumbent.id if incumbent and is_elite else None
        value = score - incumbent.objective if incumbent else score
        return Placement(identity, cell, _status(accepted, incumbent, value), value, is_elite, displaced)


def _status(accepted: bool, incumbent: Elite | None, value: float) -> Status:
    if not accepted:
        return "rejected"
    if incumbent is None:
        return "new"
    return "improved" if value > 0 else "accepted"


def _winners(cells_B: NDArray[np.int64], scores_B: NDArray[np.float64], accepted_B: NDArray[np.bool_]) -> list[int]:
    """Indices of the candidates that enter, by cell: the best accepted one of each, the first among equals."""
    candidates = np.flatnonzero(accepted_B)
    order = candidates[np.lexsort((-scores_B[candidates], cells_B[candidates]))]  # stable: the first among equals
    _, first = np.unique(cells_B[order], return_index=True)
    return order[first].tolist()


def _check_finite(name: str, values: NDArray[np.float64]) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise ValueError(f"{name} must be finite: {name}[{', '.join(map(str, place))}] is {values[place]}")
