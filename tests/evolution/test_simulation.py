"""The loop under a made-up clock: whatever is killed, delayed, doubled, reordered or lost, the search is the same."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import pytest
from searches import settings
from test_noise import lucky

from evo.dsl.rungs import AshaFidelity
from evo.evolution.journal import Journal
from evo.evolution.search import Search
from evo.evolution.trial import Trial

ASKED = settings(fidelity=AshaFidelity(eta=2, rungs=3), generations=3, population=5, cells=4, repeats=2)


@cache
def expected() -> dict[str, list[Any]]:
    """The journal of a search that nothing disturbs."""
    search = Search(ASKED, Journal(":memory:"))
    while trials := search.ask():
        search.tell({trial: lucky(trial) for trial in trials})
    return search.journal.dump()


@pytest.mark.parametrize("schedule", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 12))])
def test_no_evaluation_is_lost_or_counted_twice(schedule: int) -> None:
    """Results come in any order, late, twice or not at all, and the search begins again on its journal at any moment:
    the same trials, promotions, repetitions and placements as undisturbed."""
    rng, journal = Random(schedule), Journal(":memory:")
    search, late = Search(ASKED, journal), list[Trial]()
    told = dict[str, int]()
    while trials := search.ask():
        assert len({trial.ref for trial in trials}) == len(trials)
        for trial in rng.sample(trials, len(trials)):
            told[trial.id] = told.get(trial.id, 0) + 1
            fate = rng.random()
            if fate < 0.15:
                continue  # lost: asked for again
            if fate < 0.35:
                late.append(trial)
                continue
            search.tell({trial: lucky(trial)})
            if fate > 0.85:
                search.tell({trial: lucky(trial)})
        for trial in rng.sample(late, len(late) // 2):  # of this generation or of one long finished
            late.remove(trial)
            search.tell({trial: lucky(trial)})
        if rng.random() < 0.4:
            search = Search(ASKED, journal)  # killed
    assert max(told.values()) > 1
    assert journal.dump() == expected()
