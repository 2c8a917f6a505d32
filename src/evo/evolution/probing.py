"""What organisms can show before any of them is trained: random mutants of the seeds, built and probed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, parse
from evo.engines.jobs import Engine, Job
from evo.evolution.cost_range import cost_range
from evo.evolution.frozen import Frozen
from evo.evolution.mutate import Child, NoChildError, mutate
from evo.evolution.settings import Settings
from evo.tasks.base import open_task
from evo.training.behaviour import MEASURES, behaviour

PROBE = "evo.evolution.probing:probe"
"""The name by which engines call `probe`."""
LEAST = 8
"""Mutants; of fewer nothing is concluded."""


@dataclass(frozen=True)
class ProbeJob:
    """An organism to be built and probed. document: canonical YAML. root: what relative corpus paths start from."""

    document: str
    root: str
    device: str = "cpu"


@dataclass(frozen=True)
class Sample:
    """Measures of untrained organisms: of the seeds by candidate, and of some mutants."""

    seeds: dict[str, tuple[float, ...]]
    mutants: tuple[tuple[float, ...], ...]

    @property
    def points(self) -> NDArray[np.float64]:
        """(N, measures) of the mutants."""
        return np.array(self.mutants).reshape(-1, len(MEASURES))

    def to_data(self) -> dict[str, Any]:
        """Plain data that JSON keeps exactly."""
        return {"measures": MEASURES, "seeds": self.seeds, "mutants": self.mutants}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Sample:
        """The inverse of `to_data`."""
        return cls({id: tuple(row) for id, row in data["seeds"].items()}, tuple(map(tuple, data["mutants"])))

    def expected(self, trained: dict[str, tuple[float, ...]]) -> NDArray[np.float64] | None:
        """(N, measures) what the mutants are expected to show once trained: moved by what training did to the seeds.

        trained: measures of seeds by candidate. None where too few mutants could be probed.
        """
        if len(self.mutants) < LEAST:
            return None
        moves = [np.subtract(row, self.seeds[id]) for id, row in trained.items() if id in self.seeds]
        moved_NM = self.points + (np.mean(moves, axis=0) if moves else 0.0)
        return np.clip(moved_NM, 0.0, 1.0)


def probe(job: ProbeJob) -> tuple[float, ...]:
    """The measures of an untrained organism on held-out data of its task."""
    document = parse(job.document).document
    model = build(resolve(document.organism), document.train.seed, job.device).eval()
    task = open_task(document.train.task, Path(job.root))
    return behaviour(model, task, document.context, document.train.seed).measures.vector()


def sample(settings: Settings, engine: Engine, seeds: dict[str, str], mutants: int, most: int) -> Sample:
    """Probe the seeds and `mutants` random mutants of 1 to `most` mutations, within the cost that the search allows.

    seeds: canonical YAML by candidate. What cannot be built or probed is left out.
    """
    drawn = {
        f"mutant {index}": text for index, text in enumerate(_mutants(settings, list(seeds.values()), mutants, most))
    }
    jobs = [Job(id, PROBE, ProbeJob(text, settings.root, settings.device)) for id, text in {**seeds, **drawn}.items()]
    found = {outcome.id: tuple(outcome.value) for outcome in engine.map(jobs) if outcome.failure is None}
    rows = {id: found[id] for id in (*seeds, *drawn) if id in found}  # outcomes come in any order
    known = {id: row for id, row in rows.items() if all(map(np.isfinite, row))}
    return Sample({id: known[id] for id in seeds if id in known}, tuple(known[id] for id in drawn if id in known))


def _mutants(settings: Settings, seeds: Sequence[str], count: int, most: int) -> Iterator[str]:
    documents = [parse(seed).document for seed in seeds]
    frozen = Frozen(settings.evolve.freeze, documents)
    costs = cost_range(settings.evolve, [resolve(document.organism) for document in documents])

    def accept(child: Child, plan: Plan) -> bool:
        return costs.holds(plan) and frozen.allows(child.document)

    for index in range(count):
        stream = Stream(settings.evolve.seed).child("sample", index)
        document: Document = documents[index % len(documents)]
        number = 1 + int(stream.child("count").numpy().integers(most))
        try:
            drawn = stream.child("mutate")
            yield to_yaml(mutate(document, drawn, mutations=number, accept=accept, frozen=frozen).document)
        except NoChildError:
            continue
