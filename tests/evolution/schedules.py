"""A search under a made-up clock: results come late, twice, in any order or never; kills at any moment, full disks.

    schedules.py COUNT [FIRST]

COUNT schedules from the FIRST on, on all cores.

Trials are made up, and a virtual clock says when each result arrives. A schedule is drawn from its number; whatever
happens in it, the journal must end as that of a search that nothing disturbed: no evaluation lost or counted twice, no
promotion or repetition missed. Prints how many schedules there were, and what happened in them.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest.mock import patch

from searches import settings
from test_noise import lucky

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler import compute
from evo.dsl.document import Document
from evo.dsl.rungs import AshaFidelity
from evo.evolution import search as module
from evo.evolution.archives import SPACE
from evo.evolution.candidate import Candidate
from evo.evolution.emitters.base import Situation
from evo.evolution.journal import Journal
from evo.evolution.search import Search
from evo.evolution.transaction import Transaction
from evo.evolution.trial import Trial

ASKED = settings(fidelity=AshaFidelity(eta=2, rungs=2), generations=2, population=4, cells=4, repeats=2, surrogate=None)
WORKERS = 3
LEASE_S = 5.0
"""After which a result that has not come is asked for again."""


class FullDisk(Exception):
    """The process has ended with EVO007."""


class FaultyJournal(Journal):
    """A journal whose transactions may fail at their end, as on a full disk: then nothing of them is there."""

    rng: Random | None = None
    odds = 0.0

    def _transaction(self) -> Transaction:
        fails = self.rng is not None and self.rng.random() < self.odds
        return Failing(self._db, self._path) if fails else super()._transaction()


class Failing(Transaction):
    """A transaction that finds no room."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error or FullDisk(), trace)
        if error is None:
            raise DiagnosticError([Diagnostic("EVO007", "made up")])


class World:
    """The search process, its workers, and the clock."""

    def __init__(self, number: int) -> None:
        self.rng, self.happened = Random(number), Counter[str]()
        self.journal = FaultyJournal(":memory:")
        self.journal.set_fact(SPACE, undisturbed()[1])
        self.journal.rng, self.journal.odds = self.rng, self.rng.choice([0.0, 0.0, 0.02, 0.1])
        self.kills, self.losses = self.rng.choice([0.0, 0.1, 0.4]), self.rng.choice([0.0, 0.1, 0.3])
        self.now, self.order = 0.0, 0
        self.arriving: list[tuple[float, int, Trial]] = []
        self.leased: dict[str, float] = {}

    def run(self) -> dict[str, list[Any]]:
        """Live through the schedule; gives what the journal says at the end."""
        search = None
        while True:
            try:
                search = search or Search(ASKED, self.journal)
                trials = search.ask()
                if not trials:
                    break
                search = self._step(search, trials)
            except DiagnosticError as error:
                if error.diagnostics[0].code != "EVO007":
                    raise
                self.happened["full disk"] += 1
                search = None
        return self.journal.dump()

    def _step(self, search: Search, trials: list[Trial]) -> Search | None:
        """Hand out what is free, and let the next result come in, or the process be killed."""
        assert len({trial.ref for trial in trials}) == len(trials), "a trial is asked for twice at once"
        free = [trial for trial in trials if self.leased.get(trial.id, 0.0) <= self.now]
        for trial in self.rng.sample(free, min(len(free), WORKERS)):
            self._hand_out(trial)
        if not self.arriving:
            self.now += LEASE_S
            return search
        self.now, _, trial = heapq.heappop(self.arriving)
        if self.journal.is_evaluated(trial.ref):
            self.happened["told again"] += 1
        search.tell({trial: lucky(trial)})
        if self.rng.random() < self.kills:
            self.happened["killed"] += 1
            if self.rng.random() < 0.5:  # the workers with it
                self.arriving.clear()
                self.leased.clear()
            return None
        return search

    def _hand_out(self, trial: Trial) -> None:
        self.leased[trial.id] = self.now + LEASE_S
        copies = 0 if self.rng.random() < self.losses else 2 if self.rng.random() < 0.2 else 1
        self.happened["lost"] += not copies
        self.happened["doubled"] += copies == 2
        for _ in range(copies):
            self.order += 1
            delay = self.rng.expovariate(1.0) * self.rng.choice([1.0, 1.0, 10.0])
            self.happened["late"] += delay > LEASE_S
            heapq.heappush(self.arriving, (self.now + delay, self.order, trial))


_EXPECTED: list[tuple[dict[str, list[Any]], Any]] = []


def undisturbed() -> tuple[dict[str, list[Any]], Any]:
    """The journal of a search that nothing disturbs, and its space."""
    if not _EXPECTED:
        journal = Journal(":memory:")
        journal.set_fact(SPACE, None)
        search = Search(ASKED, journal)
        while trials := search.ask():
            search.tell({trial: lucky(trial) for trial in trials})
        _EXPECTED.append((journal.dump(), journal.fact(SPACE)))
    return _EXPECTED[0]


@contextmanager
def remembered() -> Iterator[None]:
    """Children and costs are made once: of the same situation they are the same, which is asserted."""
    real, real_flops = module.emit, compute.step_flops
    made, flops = dict[int, tuple[Any, list[Candidate], dict[str, float]]](), dict[int, tuple[Document, float]]()

    def emit(generation: int, situation: Situation, *guided: Any) -> tuple[list[Candidate], dict[str, float]]:
        elites = [(e.id, e.objective, e.measures) for e in situation.archive.elites()]
        seen = (elites, situation.scale, situation.costs, sorted(situation.known))
        if generation not in made:
            made[generation] = seen, *real(generation, situation, *guided)
        before, children, guesses = made[generation]
        assert before == seen, f"generation {generation} was made in another situation"
        situation.known.update(child.hash for child in children)
        return children, guesses

    def step_flops(document: Document) -> float:
        if id(document) not in flops:
            flops[id(document)] = document, real_flops(document)
        return flops[id(document)][1]

    with patch.object(module, "emit", emit), patch.object(compute, "step_flops", step_flops):
        yield


def live(numbers: range) -> Counter[str]:
    """Carry out schedules. Gives what happened in them; raises AssertionError for the first that ends otherwise."""
    happened = Counter[str]()
    with remembered():
        for number in numbers:
            world = World(number)
            assert world.run() == undisturbed()[0], f"schedule {number} ended otherwise"
            world.journal.close()
            happened += world.happened
    return happened


if __name__ == "__main__":
    count, first = (int(given) for given in [*sys.argv[1:], "0"][:2])
    began, cores = time.perf_counter(), os.cpu_count() or 1
    shares = [range(first + core, first + count, cores) for core in range(cores)]
    with ProcessPoolExecutor(cores) as processes:
        found = sum(processes.map(live, shares), Counter[str]())
    print(json.dumps({"schedules": count, "seconds": round(time.perf_counter() - began, 1), **found}))
