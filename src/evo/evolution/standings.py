"""The latest standing of every candidate, ranked as they come: in all, and by the cell to which they belong."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evo.evolution.trial import WeightsRef

Key = tuple[int, float, int]


@dataclass(frozen=True)
class Standing:
    """A scored trial as an archive sees it; of several with seeds of their own, their means. count: how many."""

    trial: WeightsRef
    objective: float
    measures: tuple[float, ...]
    count: int = 1

    @property
    def id(self) -> str:
        """The candidate."""
        return self.trial.candidate


class Standings(Mapping[str, Standing]):
    """By candidate, in the order in which they were first placed.

    Scores of different rungs are not held against one another: who was judged at a higher rung ranks higher, then who
    has the higher objective, then who was placed first.
    """

    def __init__(self) -> None:
        self._latest: dict[str, tuple[Standing, int, Key]] = {}
        self._ids: list[str] = []
        self._ranked: list[Key] = []
        self._of_cell: dict[int, list[Key]] = {}

    def __getitem__(self, id: str) -> Standing:
        return self._latest[id][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._latest)

    def __len__(self) -> int:
        return len(self._latest)

    def note(self, own: Standing, cell: int) -> None:
        """Let a candidate stand so from now on, and belong to a cell."""
        known = self._latest.get(own.id)
        if known is None:
            number = len(self._ids)
            self._ids.append(own.id)
        else:
            _, left, key = known
            number = key[-1]
            for keys in (self._ranked, self._of_cell[left]):
                del keys[bisect_left(keys, key)]
        key = -own.trial.rung, -own.objective, number
        self._latest[own.id] = own, cell, key
        for keys in (self._ranked, self._of_cell.setdefault(cell, [])):
            insort(keys, key)

    def cell(self, id: str) -> int:
        """The cell to which a candidate belongs. Raises KeyError if it does not stand anywhere."""
        return self._latest[id][1]

    def leading(self, count: int) -> list[Standing]:
        """The first `count`, or all that there are."""
        return [self._of(key) for key in self._ranked[:count]]

    def first_of(self, cell: int) -> Standing | None:
        """The first of those that belong to a cell."""
        keys = self._of_cell.get(cell)
        return self._of(keys[0]) if keys else None

    def _of(self, key: Key) -> Standing:
        return self[self._ids[key[-1]]]
