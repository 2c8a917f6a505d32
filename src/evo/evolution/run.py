"""Carrying a run out: directory, journal and engine around the search."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.compute import step_tokens
from evo.compiler.resolve import resolve
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, parse
from evo.dsl.schedules import Course
from evo.dsl.tracker import TrackerSpec
from evo.engines.inline import InlineSpec
from evo.engines.jobs import Engine, Limits, make_engine
from evo.engines.pool import ProcessSpec
from evo.evolution.evaluate import EVALUATE, TrialJob, pack_weights
from evo.evolution.extension import extend, spans
from evo.evolution.forecast import training_bytes
from evo.evolution.founders import read_founder
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.observer import Observer
from evo.evolution.rundir import RunDirectory
from evo.evolution.search import Search
from evo.evolution.settings import Settings, primary_of
from evo.evolution.together import outcomes, stackable
from evo.evolution.told import told
from evo.evolution.tracking import Tracking
from evo.evolution.verdict import Training, missing
from evo.tasks.base import open_task
from evo.training.device import choose_device, gpus_to_share
from evo.training.trackers.base import Tracked, Trackers, make_trackers

RETRIED = ("crash", "timeout", "memory")
"""Causes of failure that another limit or a quieter machine may cure."""
WARNINGS = "warnings"
"""The fact in the journal: sentences for the user."""
SETTINGS = "settings"
"""The fact in the journal: the digest of what results depend on."""
MOST_DEFAULT_WORKERS = 8
CONTEXT_BYTES = 2 * 2**30
"""What a process takes of a GPU's memory before it trains anything, and what libraries take beside it."""
CHILD = 4
"""How many times a seed's memory a child may need."""


def default_workers(device: str, documents: Iterable[Document]) -> int:
    """One a core on a CPU, at most 8. Those of a GPU share it: while some compile kernels, score and encode snapshots,
    others train; one for two cores, at most 8 a GPU, and no more than it has memory for children of these documents.
    One on any other device."""
    if device == "cpu":
        return min(MOST_DEFAULT_WORKERS, cores())
    if not device.startswith("cuda"):
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    largest = max(training_bytes(resolve(document.organism), document) for document in documents)
    each = min(MOST_DEFAULT_WORKERS, int(free // (CONTEXT_BYTES + CHILD * largest)))
    return max(1, min(cores() // 2, each * max(1, len(gpus_to_share(device)))))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a container's or a batch system's share, not the machine's
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start(
    path: Path,
    settings: Settings,
    observer: Observer,
    *,
    force: bool = False,
    founders: Sequence[bytes] = (),
    trackers: Sequence[TrackerSpec] = (),
    evaluate: str = EVALUATE,
) -> None:
    """Begin a run in a new directory and carry it to its end. `force` removes what an earlier run left there.

    founders: the weights that the settings' founders stand for, see `warmed`. trackers: who is told of trials and
    generations, see `Tracking`. evaluate: what measures a trial, see `Search`.

    Raises:
        DiagnosticError: a run is there already, or around it (EVO601), or going on (EVO604), a corpus cannot be read
            (EVO500, EVO501), every weight is 0 (EVO345), no seed trains (EVO620), seeds have different scores
            (EVO621), or a tracker's package is missing (EVO525).
    """
    primary_of(settings.seeds)
    fitness = settings.evolve.fitness
    if not fitness.task + fitness.efficiency + fitness.gradient:  # an option may say so where the document does not
        raise DiagnosticError([Diagnostic("EVO345", "every weight is 0, so all candidates would be equally good")])
    corpora = corpora_of(settings)
    settings = replace(settings, task_digest=next(iter(corpora.values())))
    directory = RunDirectory(path)
    directory.require_outside()
    with directory.held(), _trackers(trackers, directory, settings) as told:
        if force:
            directory.remove()
        directory.create(settings, corpora, founders)
        _carry_out(directory, settings, observer, evaluate, told)


def resume(
    path: Path,
    observer: Observer,
    workers: int | None = None,
    *,
    root: Path | None = None,
    generations: int | None = None,
    max_seconds: float | None = None,
    trackers: Sequence[TrackerSpec] = (),
    evaluate: str = EVALUATE,
) -> None:
    """Continue a run to its end, whatever stopped it. Does nothing to a finished run but write its files again.

    root: where relative corpus paths start from now. generations: how many it shall have in all, as many as before or
    more. max_seconds: another limit from now on. trackers: who is told of what is still to come.

    Raises:
        DiagnosticError: what `start` raises, EVO603 for other settings, another text, or fewer generations, and EVO600
            for a journal or founders that are gone.
    """
    directory = RunDirectory(path)
    settings = directory.load(workers)
    directory.require_journal()
    if max_seconds is not None:
        settings = replace(settings, max_seconds=max_seconds)
    choose_device(settings.device)
    if root is not None:
        settings = replace(settings, root=str(root.resolve()))
    try:
        corpora = corpora_of(settings)
    except DiagnosticError as error:
        help = f"put the old text back into {settings.root}, or say by --root where it is"
        raise DiagnosticError([replace(fault, help=help) for fault in error.diagnostics]) from None
    for name, digest in corpora.items():
        if digest != settings.task_digest:
            message = f"corpus '{name}' is no longer the text that this run began with"
            help = f"put the old text back into {settings.root}, or say by --root where it is"
            raise DiagnosticError([Diagnostic("EVO603", message, None, help)])
    for slot, founder in enumerate(settings.founders):
        read_founder(path, slot, founder)  # rather now than in the middle
    with directory.held(), _trackers(trackers, directory, settings) as told:
        _carry_out(directory, settings, observer, evaluate, told, generations)


def _trackers(
    specs: Sequence[TrackerSpec], directory: RunDirectory, settings: Settings
) -> AbstractContextManager[Trackers]:
    """Trackers that know the run by the name of its folder, and its first seed with the settings of the search."""
    seed = to_data(parse(settings.seeds[0]).document)
    document = {**seed, "evolve": to_data(settings.evolve)}
    return make_trackers(specs, Tracked(directory.path, directory.path.resolve().name, document))


def _carry_out(
    directory: RunDirectory,
    settings: Settings,
    observer: Observer,
    evaluate: str,
    trackers: Trackers,
    generations: int | None = None,
) -> None:
    directory.sweep()
    journal = Journal(directory.journal_file)
    try:
        if trackers.made:
            observer = Tracking(observer, trackers, journal)
        settings = _extended(journal, settings, generations)
        directory.change(settings)
        observer.warned(_warnings(journal, settings))
        if journal.finished() == 0:  # with no seed a run cannot begin: whatever stood in its way may be gone by now
            journal.forget_failures(0, RETRIED)
        search = Search(settings, journal, evaluate=evaluate, directory=directory, observer=observer)
        with engine_of(settings) as engine:
            search.run(engine)
        verify(settings, journal, observer, evaluate, directory.path)
    finally:
        journal.close()


def _warnings(journal: Journal, settings: Settings) -> tuple[str, ...]:
    """What the user should know of the texts and seeds, as it was when the run began."""
    if journal.fact(WARNINGS) is None:
        documents = [parse(seed).document for seed in settings.seeds]
        tasks = {task.name: task for task in (open_task(d.train.task, Path(settings.root)) for d in documents)}
        found = [warning for task in tasks.values() for warning in task.warnings]
        if len({(d.train.steps, d.train.budget, step_tokens(d)) for d in documents}) > 1:
            found.append(
                f"the seeds name several budgets; every candidate gets that of the first, {settings.train_budget}"
            )
        journal.set_fact(WARNINGS, found)
    return tuple(journal.fact(WARNINGS))


def _extended(journal: Journal, settings: Settings, generations: int | None) -> Settings:
    """The settings for as many generations as the run has by now. Raises DiagnosticError (EVO603)."""
    known = [span.generations for span in spans(journal, settings.evolve.generations)]
    # An extension is recorded before run.yaml is changed, which may hold an earlier number after a kill, and no other.
    is_known = settings.evolve.generations in known
    _require_same(journal, settings.of_generations(known[0]) if is_known else settings)
    settings = settings.of_generations(known[-1])
    if generations is None:
        return settings
    said = extend(journal, settings, generations)
    if said is not None:
        journal.set_fact(WARNINGS, [*_warnings(journal, settings), said])
    return settings.of_generations(generations)


def _require_same(journal: Journal, settings: Settings) -> None:
    """Raise DiagnosticError unless these are the settings that the journal was begun with (EVO603)."""
    before = journal.fact(SETTINGS)
    if before is None:
        journal.set_fact(SETTINGS, settings.digest)
    elif before != settings.digest:
        message = "run.yaml holds other settings than this run began with"
        help = (
            "put them back, or start a new run; root, engine, workers and limits may change, and --generations extends"
        )
        raise DiagnosticError([Diagnostic("EVO603", message, None, help)])


def verify(settings: Settings, journal: Journal, observer: Observer, evaluate: str, folder: Path | None = None) -> None:
    """Carry out the trainings of the verdict that are missing. They may take longer than a candidate, in proportion to
    the steps. folder: of the run."""
    wanted = missing(settings, journal)
    if not wanted:
        return
    observer.verdict_began(len(wanted))
    share = max(row.steps for row in wanted) / min(trial.steps for trial in journal.trials())
    seconds = None if settings.max_seconds is None else settings.max_seconds * max(1.0, share)
    groups = stackable(wanted, settings.device) if evaluate == EVALUATE else [[row] for row in wanted]
    own = replace(settings, workers=min(settings.workers, len(groups)), max_seconds=seconds)
    lineage = Lineage(journal, settings, folder)
    with engine_of(own, together=max(map(len, groups))) as engine:
        jobs = {row.key: _verdict_job(own, row, lineage) for row in wanted}
        for group in outcomes([[row.key for row in group] for group in groups], jobs, engine, evaluate):
            found = {outcome.id: told(outcome, own.primary) for outcome in group}
            scores = {key: {"score": e.scores.get(own.primary.name), "cause": e.cause} for key, e in found.items()}
            journal.set_facts(scores)
            observer.verdict_trained(len(group))


def _verdict_job(settings: Settings, training: Training, lineage: Lineage) -> TrialJob:
    return TrialJob(
        training.document,
        settings.root,
        settings.device,
        settings.kernels,
        settings.task_digest,
        parents=tuple(pack_weights(lineage.weights(source)) for source in training.start.sources),
        origins=training.start.origins,
        offset=training.start.offset,
        course=Course.of(training.steps),
        repeat=training.seed,
        max_seconds=settings.max_seconds,
        tolerance=None,
        budget=settings.budget,
        is_verdict=True,
    )


def engine_of(settings: Settings, together: int = 1) -> Engine:
    """The engine that the search names; where it names none, processes if there are workers, otherwise this one.

    together: how many trainings a job carries out at most.
    """
    hard_limit = None if settings.max_seconds is None else 2 * together * settings.max_seconds + 60
    workers, preload = max(1, settings.workers), ("evo.evolution.evaluate",)
    gpus = gpus_to_share(settings.device)
    limits = Limits(workers, hard_limit, settings.max_memory_bytes, preload, gpus)
    usual = ProcessSpec() if settings.workers else InlineSpec()
    return make_engine(settings.evolve.engine or usual, limits)


def corpora_of(settings: Settings) -> dict[str, str]:
    """The content digest of what the seeds learn, which is one, under each name that it has.

    Raises:
        DiagnosticError: it cannot be read (EVO500, EVO501), or the seeds learn from different texts (EVO621).
    """
    found: dict[str, str] = {}
    for seed in settings.seeds:
        document = parse(seed).document
        task = open_task(document.train.task, Path(settings.root))
        for side in task.sides():
            side.require(document.context)
        found[task.name] = task.digest
    if len(set(found.values())) > 1:
        message = f"the seeds learn from different texts: {', '.join(found)}"
        help = "search with each of them apart: scores on different texts do not compare"
        raise DiagnosticError([Diagnostic("EVO621", message, None, help)])
    return found
