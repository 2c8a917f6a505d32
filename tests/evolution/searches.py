"""Small searches: real evaluations of tiny models, scored on little text."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from parents import document, stage

from evo.dsl.canonical import to_yaml
from evo.dsl.centroids import UniformCentroids
from evo.dsl.evolve import EvolveSpec, VerifySpec
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.trial import Budget

LITTLE = Budget(held_out_tokens=512, snapshot_tokens=256, moment_tokens=256)


def seed_document(**train: Any) -> str:
    """A seed of two layers."""
    return to_yaml(document(stage("body", repeat=2), width=16, train={"steps": 2, **train}))


def settings(*seeds: str, workers: int = 0, max_seconds: float | None = None, **evolve: Any) -> Settings:
    """A search of two generations of three without a verdict or repetitions, unless told otherwise."""
    usual = {"generations": 2, "population": 3, "cells": 8, "centroids": UniformCentroids(), "crossover": 0.4}
    spec = EvolveSpec(**{**usual, "verify": VerifySpec(seeds=0), "repeats": 1, **evolve})
    seeds = seeds or (seed_document(),)
    return Settings(seeds, "/nowhere", spec, workers=workers, max_seconds=max_seconds, budget=LITTLE)


class Quiet:
    """Watches and notes what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def warned(self, warnings: tuple[str, ...]) -> None:
        self.warnings = warnings

    def generation_began(self, generation: int, candidates: Any, temperature: float) -> None:
        self.events.append(("began", generation, len(candidates)))

    def promoted(self, trials: Any) -> None:
        self.events.append(("promoted", [trial.id for trial in trials]))

    def repeated(self, trials: Any) -> None:
        self.events.append(("repeated", [trial.id for trial in trials]))

    def evaluated(self, trial: Any, evaluation: Any, seconds: float) -> None:
        self.events.append(("evaluated", trial.id, evaluation.cause))

    def generation_ended(self, summary: Any) -> None:
        self.events.append(("ended", summary.generation))

    def verdict_began(self, trainings: int) -> None:
        self.events.append(("verdict", trainings))

    def verdict_trained(self, trainings: int) -> None:
        self.events.append(("trained", trainings))


def variants(folder: Path) -> dict[str, str]:
    """The digest of every file of a run but its journal and reports, hidden ones included."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def dump(folder: Path) -> dict[str, list[Any]]:
    """What the journal of a run says."""
    journal = Journal(RunDirectory(folder).journal_file)
    try:
        return journal.dump()
    finally:
        journal.close()
