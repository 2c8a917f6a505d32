"""`evo bench pool`: a pool, static and alive, beside attention of the same heads."""

from __future__ import annotations

import pytest

from evo.bench.pool import Setting, cells, elites_megabytes, measure

TINY = Setting(16, 1, 16, cases=((4, 8),), every=2, cull_every=4)


@pytest.mark.slow
def test_all_ways_are_timed_side_by_side() -> None:
    """A row has the time of each way, and ratios of times of one round."""
    (row,) = measure("cpu", 1, TINY)
    times = row.milliseconds
    assert row.static.mean == pytest.approx(times["static pool"] / times["attention"])
    assert row.living.mean == pytest.approx(times["living pool"] / times["static pool"])
    assert row.births > 0
    heading, cells_of_row = cells([row])
    assert len(heading) == len(cells_of_row)
    assert row.mode == "eager"


def test_a_thousand_elites_are_small() -> None:
    """Those of a head of 64 at width 512, of full rank, take less than 100 MB (the original: 500)."""
    assert 10 < elites_megabytes(1) < 100
