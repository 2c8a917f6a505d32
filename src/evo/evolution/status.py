"""Where a run stands, read from its journal while another process may be carrying it out."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.settings import Settings
from evo.evolution.verdict import missing


@dataclass(frozen=True)
class Status:
    """A run in numbers.

    generation: the one that is open, or the last; of `generations`. evaluated: of the `trials` asked for in it so far.
    candidates: of the whole run. failures: how many candidates failed, by cause. best: the id of the highest objective
    by the last finished generation. best_scored, best_score: the id of the best primary score, whose name is `score`,
    and the score. busy_s: wall seconds of all evaluations. is_going_on: a process holds the run. is_finished: it is at
    its end, control included.
    """

    generation: int
    generations: int
    evaluated: int
    trials: int
    candidates: int
    failures: dict[str, int]
    score: str
    best: str | None
    best_scored: str | None
    best_score: float | None
    busy_s: float
    is_going_on: bool
    is_finished: bool


def status(path: Path) -> Status:
    """Where the run in a directory stands.

    Raises:
        DiagnosticError: there is none, or its journal cannot be read (EVO600, EVO605).
    """
    directory = RunDirectory(path)
    settings = directory.load()
    is_going_on = directory.is_held()
    with closing(Journal(directory.journal_file, only_read=True)) as journal:
        return _status(journal, settings, is_going_on)


def _status(journal: Journal, settings: Settings, is_going_on: bool) -> Status:
    finished, last = journal.finished(), journal.generations()[-1:]
    generation = min(finished, settings.evolve.generations)
    trials = journal.trials(generation)
    found = journal.evaluations(with_snapshot=False)
    causes = Counter(own.cause for own in found.values() if own.cause)
    return Status(
        generation=generation,
        generations=settings.evolve.generations,
        evaluated=sum(trial in found for trial in trials),
        trials=len(trials),
        candidates=len(journal.candidates()),
        failures=dict(sorted(causes.items())),
        score=settings.primary.name,
        best=last[0].best if last else None,
        best_scored=last[0].best_scored if last else None,
        best_score=last[0].best_score if last else None,
        busy_s=sum(timing.seconds for timing in journal.timings().values()),
        is_going_on=is_going_on,
        is_finished=finished > settings.evolve.generations and not missing(settings, journal),
    )
