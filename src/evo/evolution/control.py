"""The honest control: children inherit trained weights, so the winner is held against its seed trained as long."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from evo.dsl.schedules import Course
from evo.engines.jobs import Engine, Job
from evo.evolution.evaluate import TrialJob, outcome_of
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.observer import Observer
from evo.evolution.settings import Settings

CONTROL = "control"
"""The fact in the journal."""


@dataclass(frozen=True)
class Control:
    """The winner beside its seed, which was trained for `steps`, as many as the winner's whole ancestry.

    winner, seed: ids. winner_score, control_score: the primary score, None where the control failed with a `cause`.
    """

    winner: str
    winner_score: float
    seed: str
    steps: int
    control_score: float | None
    cause: str
    winner_beats_control: bool


def control_steps(journal: Journal) -> int:
    """Training steps of the winner's whole ancestry."""
    lineage = Lineage(journal)
    return lineage.steps(lineage.latest(str(journal.generations()[-1].best)))


def control(settings: Settings, journal: Journal, engine: Engine, observer: Observer, evaluate: str) -> Control:
    """Train the seed of the winner's line for as many steps as the winner's whole ancestry, and compare."""
    winner = str(journal.generations()[-1].best)
    lineage = Lineage(journal)
    ref, seed = lineage.latest(winner), lineage.line(winner)[-1]
    steps = lineage.steps(ref)
    observer.control_began(steps)
    job = TrialJob(
        seed.document,
        settings.root,
        settings.device,
        settings.kernels,
        settings.task_digest,
        course=Course.of(steps),
        max_seconds=settings.max_seconds,
        tolerance=None,
        budget=settings.budget,
    )
    (outcome,) = engine.map([Job(CONTROL, evaluate, job)])
    trained, own = outcome_of(outcome), journal.evaluation(ref, with_snapshot=False)
    assert own is not None
    primary = settings.primary
    score, found = own.scores[primary.name], trained.scores.get(primary.name)
    return Control(
        winner=winner,
        winner_score=score,
        seed=seed.id,
        steps=steps,
        control_score=found,
        cause=trained.cause,
        winner_beats_control=found is not None and primary.is_better(score, found),
    )


def recorded_control(journal: Journal) -> Control | None:
    """The control of a run, if it was carried out."""
    found: dict[str, Any] | None = journal.fact(CONTROL)
    return None if found is None else Control(**found)


def record_control(journal: Journal, found: Control) -> None:
    """Write the control into the journal."""
    journal.set_fact(CONTROL, asdict(found))
