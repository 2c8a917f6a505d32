"""The archive beside pyribs': the same candidates into the same cells, one at a time and in batches, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive
from evo.base.streams import Stream

CELLS = (1_000, 10_000, 100_000)
BATCHES = {"single": (1, 400), "batch of 1,000": (1_000, 8), "batch of 10,000": (10_000, 3)}
"""By name: candidates a call, and calls a round."""
MEASURES = 5


@dataclass(frozen=True)
class Row:
    """Processor seconds of one call, medians over rounds. times: theirs over ours, with the least and the most."""

    cells: int
    what: str
    ours: float
    theirs: float
    times: float
    least: float
    most: float


@dataclass(frozen=True)
class Report:
    """The rows, and the processor seconds that the centroids of 10,000 cells took."""

    rows: tuple[Row, ...]
    centroids: float


def measure(rounds: int = 7) -> Report:
    """Fill both archives side by side.

    Raises:
        ImportError: pyribs is not installed.
        AssertionError: the two archives hold different elites.
    """
    began = time.process_time()
    middle = centroids(10_000, [(0.0, 1.0)] * MEASURES, Stream(0))
    seconds = time.process_time() - began
    rng = Stream(0).child("cells").numpy()
    placed = {cells: middle if cells == len(middle) else rng.random((cells, MEASURES)) for cells in CELLS}
    rows = [_row(cells, what, placed[cells], rounds) for cells in CELLS for what in BATCHES]
    return Report(tuple(rows), seconds)


def cells(report: Report) -> list[tuple[str, ...]]:
    """The table, its heading first."""
    head = ("cells", "what", "ours, us", "ribs, us", "times as fast", "from", "to")
    return [
        head,
        *(
            (
                f"{row.cells:,}",
                row.what,
                f"{row.ours * 1e6:,.0f}",
                f"{row.theirs * 1e6:,.0f}",
                f"{row.times:.2f}",
                f"{row.least:.2f}",
                f"{row.most:.2f}",
            )
            for row in report.rows
        ),
    ]


def _row(count: int, what: str, points_CM: np.ndarray, rounds: int) -> Row:
    from ribs.archives import CVTArchive as RibsArchive

    size, calls = BATCHES[what]
    pairs = list[tuple[float, float]]()
    for index in range(rounds):
        rng = Stream(index).child(what, count).numpy()
        scores, points = rng.random((calls, size)), rng.random((calls, size, MEASURES))
        names = [list(map(str, range(call * size, (call + 1) * size))) for call in range(calls)]
        solutions = np.arange(calls * size, dtype=np.float64).reshape(calls, size, 1)
        ours = CVTArchive(points_CM)
        theirs = RibsArchive(solution_dim=1, centroids=points_CM, ranges=[(0.0, 1.0)] * MEASURES)

        def add_ours(call: int) -> None:
            ours.add(names[call], scores[call], points[call])  # noqa: B023 - called within the round

        def add_theirs(call: int) -> None:
            if size == 1:
                theirs.add_single(solutions[call][0], scores[call][0], points[call][0])  # noqa: B023
            else:
                theirs.add(solutions[call], scores[call], points[call])  # noqa: B023

        turns = (add_ours, add_theirs) if index % 2 else (add_theirs, add_ours)
        took = {turn: _seconds(turn, calls) for turn in turns}
        _require_equal(ours, theirs)
        pairs.append((took[add_ours], took[add_theirs]))
    ratios = [other / own for own, other in pairs]
    ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(count, what, ours_s, theirs_s, statistics.median(ratios), min(ratios), max(ratios))


def _seconds(turn: Callable[[int], None], calls: int) -> float:
    began = time.process_time()
    for call in range(calls):
        turn(call)
    return (time.process_time() - began) / calls


def _require_equal(ours: CVTArchive, theirs: object) -> None:
    """Raise AssertionError unless the same candidates hold the same cells."""
    data = theirs.data()  # type: ignore[attr-defined]
    held = {int(cell): str(int(name)) for cell, name in zip(data["index"], data["solution"][:, 0], strict=True)}
    assert held == {elite.cell: elite.id for elite in ours.elites()}
