"""What a search asks of all its generations, read from the journal a generation at a time and kept.

What a finished generation left in the journal does not change, so it is read once; the present one is read whenever it
is asked for. So the time that a generation takes does not grow with those before it.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evo.dsl.ranking import Ranking
from evo.dsl.task import Score

Costs = list[Ranking]
Descent = tuple[str, tuple[str, ...], tuple[str, ...]]


class Past:
    """The finished generations of a journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._costs: dict[Score, _Costs] = {}
        self._gains: dict[str, float] = {}
        self._placed = 0  # generations whose placements are among the gains
        self._descent: list[Descent] = []
        self._children: dict[str, list[str]] = {}
        self._made = 0  # generations whose candidates are in the descent

    def costs(self, primary: Score) -> Costs:
        """See `Journal.costs`."""
        kept, finished = self._costs.setdefault(primary, _Costs()), self._finished()
        kept.note(self._trials(kept.generations, finished, primary))
        kept.generations = finished
        return kept.with_more(self._trials(finished, sys.maxsize, primary))

    def gains(self) -> Mapping[str, float]:
        """What those candidates brought the result archive that entered it: their objective in an empty cell, their
        improvement in an occupied one, at their latest placement."""
        finished = self._finished()
        rows = self._db.execute(
            "SELECT candidate, value FROM placements WHERE generation >= ? AND generation < ? AND archive = 'result' "
            "AND status IN ('new', 'improved') ORDER BY generation, place",
            (self._placed, finished),
        )
        self._gains.update(rows)
        self._placed = finished
        return self._gains

    def descent(self) -> Sequence[Descent]:
        """See `Journal.descent`."""
        self._read_candidates()
        return self._descent

    def children(self, id: str) -> Sequence[str]:
        """The candidates that have one among their parents, in order."""
        self._read_candidates()
        return self._children.get(id, ())

    def _read_candidates(self) -> None:
        rows = self._db.execute(
            "SELECT id, parents, operators, generation FROM candidates WHERE generation >= ? ORDER BY generation, slot",
            (self._made,),
        )
        for id, parents, operators, generation in rows:  # a generation's candidates come all at once
            names = tuple(json.loads(parents))
            self._descent.append((id, names, tuple(json.loads(operators))))
            for parent in names:
                self._children.setdefault(parent, []).append(id)
            self._made = generation + 1

    def _finished(self) -> int:
        return self._db.execute("SELECT COUNT(*) FROM generations").fetchone()[0]

    def _trials(self, first: int, end: int, primary: Score) -> list[tuple[str, int, float]]:
        """(candidate, rung, cost) of the evaluated trials that generations from `first` to before `end` asked for."""
        rows = self._db.execute(
            "SELECT trials.candidate, trials.rung, CASE cause WHEN '' THEN value END "
            "FROM trials JOIN evaluations USING (candidate, rung, repeat) JOIN candidates ON id = trials.candidate "
            "LEFT JOIN (SELECT * FROM scores WHERE name = ?) USING (candidate, rung, repeat) "
            "WHERE trials.generation >= ? AND trials.generation < ? "
            "ORDER BY trials.generation, rung, repeat, candidates.generation, slot",
            (primary.name, first, end),
        )
        return [(id, rung, math.inf if value is None else primary.cost(value)) for id, rung, value in rows]


@dataclass
class _Costs:
    """Costs by rung and candidate, all of them and their means. generations: how many were noted."""

    generations: int = 0
    all: list[dict[str, list[float]]] = field(default_factory=list[dict[str, list[float]]])
    means: Costs = field(default_factory=Costs)

    def note(self, trials: list[tuple[str, int, float]]) -> None:
        """Take finished generations in."""
        for id, rung, cost in trials:
            while len(self.all) <= rung:
                self.all.append({})
                self.means.append(Ranking())
            own = self.all[rung].setdefault(id, [])
            own.append(cost)
            self.means[rung][id] = sum(own) / len(own)

    def with_more(self, trials: list[tuple[str, int, float]]) -> Costs:
        """The means with the trials of the generation that goes on."""
        means, more = [Ranking(own) for own in self.means], dict[tuple[int, str], list[float]]()
        for id, rung, cost in trials:
            means += [Ranking() for _ in range(rung + 1 - len(means))]
            before = self.all[rung].get(id, []) if rung < len(self.all) else []
            own = more.setdefault((rung, id), list(before))
            own.append(cost)
            means[rung][id] = sum(own) / len(own)
        return means
