"""Costs by candidate that are kept in their order, so that asking for the best does not sort all of them again."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from math import isnan

Key = tuple[bool, float, str]


class Ranking(dict[str, float]):
    """A dict of costs by candidate, ranked: the least first, NaN last, equals by id. Only `[]=` changes it."""

    def __init__(self, costs: Mapping[str, float] | None = None) -> None:
        super().__init__(costs or {})
        order = costs._order if isinstance(costs, Ranking) else sorted(map(_key, self, self.values()))
        self._order: list[Key] = [*order]

    def __setitem__(self, id: str, cost: float) -> None:
        if id in self:
            del self._order[bisect_left(self._order, _key(id, self[id]))]
        insort(self._order, _key(id, cost))
        super().__setitem__(id, cost)

    def best(self, count: int) -> list[str]:
        """The first `count` candidates."""
        return [id for _, _, id in self._order[:count]]


def _key(id: str, cost: float) -> Key:
    return (True, 0.0, id) if isnan(cost) else (False, cost, id)
