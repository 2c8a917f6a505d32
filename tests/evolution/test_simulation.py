"""The loop under a made-up clock: whatever is killed, delayed, doubled, reordered or lost, the search is the same.

`schedules.py 10000` carries out as many schedules; here are the first of them.
"""

from __future__ import annotations

from random import Random
from unittest.mock import patch

import pytest
import schedules
from searches import settings
from test_noise import lucky

from evo.dsl.rungs import AshaFidelity
from evo.evolution.journal import Journal
from evo.evolution.scheduler import Scheduler
from evo.evolution.search import Search


def test_no_evaluation_is_lost_or_counted_twice() -> None:
    """Results come in any order, late, twice or not at all, disks fill up, the search begins again at any moment: the
    same trials, promotions, repetitions and placements as undisturbed."""
    happened = schedules.live(range(20))
    assert all(happened[name] for name in ("late", "lost", "doubled", "told again", "killed", "full disk")), happened


def test_a_missed_promotion_is_noticed() -> None:
    """The simulation can fail: a scheduler that forgets a promotion now and then does not end as it should."""
    promoted, rng = Scheduler.promoted, Random(0)

    def forgetful(self: Scheduler, generation: int, population: frozenset[str]) -> list[object]:
        return [] if rng.random() < 0.5 else list(promoted(self, generation, population))

    schedules.undisturbed()
    with patch.object(Scheduler, "promoted", forgetful), pytest.raises(AssertionError, match="ended otherwise"):
        schedules.live(range(8))


@pytest.mark.slow
def test_children_are_made_again_after_a_kill() -> None:
    """With nothing remembered from before, a search begun anew at every step makes the same children and ends alike."""
    asked = settings(fidelity=AshaFidelity(eta=2, rungs=3), generations=3, population=5, cells=4, repeats=2)
    journals = [Journal(":memory:"), Journal(":memory:")]
    for journal, restarts in zip(journals, (False, True), strict=True):
        search = Search(asked, journal)
        while trials := search.ask():
            search.tell({trial: lucky(trial) for trial in (trials[:1] if restarts else trials)})
            search = Search(asked, journal) if restarts else search
    assert journals[0].dump() == journals[1].dump()
