"""One archive of a search with rungs: a candidate stands in it once, and scores of different rungs meet fairly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evo.archive.cvt import CVTArchive, Placement
from evo.archive.rules import ELITIST, Rule
from evo.evolution.journal import Placed
from evo.evolution.standings import Standing, Standings


class RankedArchive:
    """An archive by its `name`, into which candidates are placed again when they were trained for longer.

    Who holds a cell with a score of a higher rung makes room only for a score of that rung. A cell that is left by its
    holder goes to the best of all that belong there.
    """

    def __init__(self, name: str, archive: CVTArchive) -> None:
        self.name, self.archive = name, archive

    def place(
        self, standings: Sequence[Standing], latest: Standings, rule: Callable[[list[int]], Rule]
    ) -> list[Placed]:
        """Place a batch, the highest rung first. Gives a row for each of it in its order, then one a refilled cell.

        latest: of every candidate, those of the batch included, by the archive's cells. rule: by indices into it.
        """
        left = [cell for own in standings if (cell := self.archive.remove(own.id)) is not None]
        found: dict[int, Placed] = {}
        for rung in sorted({own.trial.rung for own in standings}, reverse=True):
            group = [n for n, own in enumerate(standings) if own.trial.rung == rung]
            barred = dict(self._barred(standings, group, latest))
            free = [n for n in group if n not in barred]
            found |= barred | dict(zip(free, self._add([standings[n] for n in free], rule(free)), strict=True))
        return [*(found[n] for n in range(len(standings))), *self._refilled(left, latest)]

    def _barred(
        self, standings: Sequence[Standing], group: list[int], latest: Standings
    ) -> Iterator[tuple[int, Placed]]:
        """Those of a group whose cell is held by a score of a higher rung."""
        for n in group:
            own = standings[n]
            cell = latest.cell(own.id)
            elite = self.archive.elite(cell)
            if elite is not None and latest[str(elite.id)].trial.rung > own.trial.rung:
                yield n, Placed(own.trial, self.name, cell, "rejected", own.objective - elite.objective, False)

    def _refilled(self, left: list[int], latest: Standings) -> Iterator[Placed]:
        """The cells that were left and not taken, each with the best that belongs there."""
        wanted = {cell for cell in left if self.archive.elite(cell) is None}
        for cell in sorted(wanted):
            first = latest.first_of(cell)
            if first is not None:
                yield from self._add([first], ELITIST)

    def _add(self, standings: list[Standing], rule: Rule) -> list[Placed]:
        if not standings:
            return []
        ids, objectives = [own.id for own in standings], [own.objective for own in standings]
        placements = self.archive.add(ids, objectives, [own.measures for own in standings], rule)
        return [self._row(own, placement) for own, placement in zip(standings, placements, strict=True)]

    def _row(self, own: Standing, p: Placement) -> Placed:
        return Placed(own.trial, self.name, p.cell, p.status, p.value, p.is_elite)
