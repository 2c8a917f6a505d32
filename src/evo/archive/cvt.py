"""CVT-MAP-Elites archive: the best variant of each Voronoi cell of the measure space.

Vassiliades, Chatzilygeroudis and Mouret 2018 (https://arxiv.org/abs/1610.05729). Batches, ties, offset and errors are
those of `ribs.archives.CVTArchive` with its default learning rate; a test holds the two side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue] - compiled; half of KDTree's cost a call

from evo.archive.rules import ELITIST, Rule
from evo.archive.store import Elite, EliteStore, Identity, Statistics
from evo.base.streams import Stream

VERSION = 2

LEAF = 32
"""Points of a leaf of the tree: with five measures, queries are a fifth faster than with scipy's 10."""
LARGE, LARGE_BATCH, SLABS = 20_000, 1_000, 8
"""A tree of so many cells leaves the processor's cache, so batches of so many points are looked up slab by slab."""

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
        learning_rate: how fast a cell's threshold follows what it accepts, in [0, 1]; None accepts by the incumbent.
            Thresholds begin at the offset (CMA-MAE, Fontaine and Nikolaidis 2023, https://arxiv.org/abs/2205.10752): at
            0 they stay there, so that anything replaces anything, at 1 they are the last accepted objectives.

    Raises:
        ValueError: centroids that are not a finite matrix with a row and a column, or an offset that is not finite.
    """

    def __init__(self, centroids: ArrayLike, offset: float = 0.0, learning_rate: float | None = None) -> None:
        self.centroids_CM: NDArray[np.float64] = np.array(centroids, dtype=np.float64)
        if self.centroids_CM.ndim != 2 or 0 in self.centroids_CM.shape or not np.isfinite(self.centroids_CM).all():
            raise ValueError(f"centroids must be finite, (cells, measures), not of shape {self.centroids_CM.shape}")
        if not np.isfinite(offset):
            raise ValueError(f"the offset must be finite, not {offset}")
        self.centroids_CM.flags.writeable = False
        self.offset = float(offset)
        self._tree = cKDTree(self.centroids_CM, leafsize=LEAF)
        self._pitch_M = np.maximum(np.ptp(self.centroids_CM, axis=0), 1e-300) / SLABS
        if learning_rate is not None and not 0.0 <= learning_rate <= 1.0:
            raise ValueError(f"a learning rate lies in [0, 1], not {learning_rate}")
        self.learning_rate = learning_rate
        self._store = EliteStore(self.cells, self.centroids_CM.shape[1], self.offset)

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
        if self.cells < LARGE or len(points_BM) < LARGE_BATCH:
            return np.asarray(self._tree.query(points_BM)[1], dtype=np.int64)
        order = np.lexsort(((points_BM - points_BM.min(0)) // self._pitch_M).T)  # neighbours meet the same branches
        cells_B = np.empty(len(points_BM), dtype=np.int64)
        cells_B[order] = self._tree.query(points_BM[order])[1]
        return cells_B

    def add(
        self, ids: Sequence[Identity], objectives_B: ArrayLike, measures_BM: ArrayLike, rule: Rule = ELITIST
    ) -> Placements:
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
        incumbents_B = self._store.objectives_C[cells_B]
        learns = self.learning_rate is not None
        accepted_B = rule.accepts(scores_B, self._store.thresholds_C[cells_B] if learns else incumbents_B)
        winners_W = _winners(cells_B, scores_B, accepted_B)
        placements = Placements(ids, cells_B, scores_B, accepted_B, winners_W, incumbents_B, self._store.ids_C[cells_B])
        if self.learning_rate is not None:
            self._raise_thresholds(cells_B[accepted_B], scores_B[accepted_B], self.learning_rate)
        entering = [ids[i] for i in winners_W.tolist()]
        self._store.put_all(cells_B[winners_W], entering, scores_B[winners_W], points_BM[winners_W])
        return placements

    def _raise_thresholds(self, cells_A: NDArray[np.int64], scores_A: NDArray[np.float64], rate: float) -> None:
        """Move each cell's threshold towards the mean of the k that it accepted, by 1 - (1 - rate)^k of the way."""
        cells_W, inverse_A, counts_W = np.unique(cells_A, return_inverse=True, return_counts=True)
        means_W = np.bincount(inverse_A, scores_A, minlength=len(cells_W)) / counts_W
        kept_W = (1.0 - rate) ** counts_W
        self._store.thresholds_C[cells_W] = kept_W * self._store.thresholds_C[cells_W] + (1.0 - kept_W) * means_W

    def threshold(self, cell: int) -> float:
        """What a candidate must exceed to enter a cell by an elitist rule, where thresholds are learned."""
        return float(self._store.thresholds_C[cell])

    def remove(self, identity: Identity) -> int | None:
        """Empty the cell that a candidate holds, and return it; None where it holds none. `best` stays what it was.

        The cell's threshold begins again: what it had learned came from a score that no longer stands.
        """
        cell = self._store.remove(identity)
        if cell is not None:
            self._store.thresholds_C[cell] = self.offset
        return cell

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
            "learning_rate": self.learning_rate,
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
            archive = cls(data["centroids"], data["offset"], data["learning_rate"])
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


class Placements(Sequence[Placement]):
    """The placements of a batch in its order; one is made when it is asked for, so that large batches cost no more.

    cells_B, scores_B, accepted_B: of the candidates. winners_W: indices of those that hold their cells now.
    incumbents_B, displaced_B: objective (-inf: none) and identity of who held each cell before.
    """

    def __init__(
        self,
        ids: Sequence[Identity],
        cells_B: NDArray[np.int64],
        scores_B: NDArray[np.float64],
        accepted_B: NDArray[np.bool_],
        winners_W: NDArray[np.int64],
        incumbents_B: NDArray[np.float64],
        displaced_B: NDArray[np.object_],
    ) -> None:
        self._ids, self._cells_B, self._scores_B, self._accepted_B = ids, cells_B, scores_B, accepted_B
        self._incumbents_B, self._displaced_B = incumbents_B, displaced_B
        self._holds_B = np.zeros(len(ids), dtype=np.bool_)
        self._holds_B[winners_W] = True

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Placement: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Placement, ...]: ...

    def __getitem__(self, index: int | slice) -> Placement | tuple[Placement, ...]:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        is_empty = self._displaced_B[index] is None
        score, is_elite = float(self._scores_B[index]), bool(self._holds_B[index])
        value = score if is_empty else score - float(self._incumbents_B[index])
        status = _status(bool(self._accepted_B[index]), is_empty, value)
        displaced = self._displaced_B[index] if is_elite else None
        return Placement(self._ids[index], int(self._cells_B[index]), status, value, is_elite, displaced)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))


def _status(accepted: bool, is_empty: bool, value: float) -> Status:
    if not accepted:
        return "rejected"
    if is_empty:
        return "new"
    return "improved" if value > 0 else "accepted"


def _winners(
    cells_B: NDArray[np.int64], scores_B: NDArray[np.float64], accepted_B: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Indices of the candidates that enter, by cell: the best accepted one of each, the first among equals."""
    candidates = accepted_B.nonzero()[0]
    if len(candidates) < 2:
        return candidates
    order = candidates[np.lexsort((-scores_B[candidates], cells_B[candidates]))]  # stable: the first among equals
    ordered = cells_B[order]
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return order[is_first]


def _check_finite(name: str, values: NDArray[np.float64]) -> None:
    if np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    place = tuple(bad[0].tolist())
    raise ValueError(f"{name} must be finite: {name}[{', '.join(map(str, place))}] is {values[place]}")
