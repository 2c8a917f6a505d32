"""Carrying a ladder out: its trainings on an engine, each recorded before the next is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from evo.base.files import held
from evo.compiler.scale import Way
from evo.dsl.document import Document
from evo.dsl.schedules import Course
from evo.engines.jobs import Engine, Job
from evo.evolution.evaluate import EVALUATE, TrialJob
from evo.evolution.ladder.findings import Findings, findings
from evo.evolution.ladder.records import FILE, Records, Scored
from evo.evolution.ladder.trainings import LadderTraining, Size, contestants
from evo.evolution.run import corpora_of, engine_of
from evo.evolution.settings import Settings
from evo.evolution.told import told

OnScored = Callable[[int, int, LadderTraining, Scored], None]
"""Called with the number of a training, how many there are, the training, and what came of it."""


def carry_out(
    folder: Path,
    documents: dict[str, Document],
    sizes: Sequence[Size],
    settings: Settings,
    *,
    seeds: int,
    way: Way = "stretching",
    floor: bool = False,
    on_scored: OnScored = lambda number, of, training, scored: None,
    evaluate: str = EVALUATE,
) -> Findings:
    """Train every document at every size over several seeds, and say what that shows, also in `ladder.json`.

    What the file has already is not trained again, so that a ladder that was stopped goes on, and one that gets another
    size, seed or baseline trains no more than that. documents: by name, the variant first. settings: with the documents
    as seeds. floor: whether an irreducible loss is fitted. evaluate: what engines call with a `TrialJob`, as
    'package.module:name'.

    Raises:
        DiagnosticError: what `corpora_of`, `contestants`, `Records` and `climb` raise; another process writes into the
            folder (EVO604).
    """
    every = contestants(documents, sizes, way)
    settings = replace(settings, task_digest=next(iter(corpora_of(settings).values())))
    trainings = [
        LadderTraining(own, seed) for at in range(len(sizes)) for seed in range(seeds) for own in every if own.at == at
    ]
    with held(folder):
        records = Records(folder / FILE)
        with engine_of(settings) as engine:
            results = climb(trainings, settings, records, engine, on_scored, evaluate)
        found = findings(results, sizes, settings.primary, floor=floor)
        records.write({"by": way, **found.to_data()})
    return found


def climb(
    trainings: Sequence[LadderTraining],
    settings: Settings,
    records: Records,
    engine: Engine,
    on_scored: OnScored,
    evaluate: str = EVALUATE,
) -> dict[LadderTraining, Scored]:
    """Train what has no record yet, each scored on text that no search reads.

    Raises:
        DiagnosticError: what trainings need is missing or broken; what was trained stays recorded.
    """
    keys = {training: training.key(*_common(settings)) for training in trainings}
    missing = {keys[training]: training for training in trainings if keys[training] not in records.by_key}
    jobs = (Job(key, evaluate, _job(training, settings)) for key, training in missing.items())
    for number, outcome in enumerate(engine.map(jobs), 1):
        found = told(outcome, settings.primary)
        score = None if found.cause else found.scores[settings.primary.name]
        scored = Scored(score, found.cause, round(outcome.seconds, 3))
        records.add(outcome.id, scored)
        on_scored(len(trainings) - len(missing) + number, len(trainings), missing[outcome.id], scored)
    return {training: records.by_key[key] for training, key in keys.items()}


def _common(settings: Settings) -> tuple[str, ...]:
    """What the scores of all trainings of a ladder depend on."""
    return settings.device, settings.kernels, settings.task_digest, str(settings.budget.held_out_tokens)


def _job(training: LadderTraining, settings: Settings) -> TrialJob:
    return TrialJob(
        training.contestant.document,
        settings.root,
        settings.device,
        settings.kernels,
        settings.task_digest,
        course=Course.of(training.contestant.steps),
        repeat=training.seed,
        max_seconds=settings.max_seconds,
        tolerance=None,
        budget=settings.budget,
        is_verdict=True,
    )
