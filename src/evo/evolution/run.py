"""Carrying a run out: directory, journal and engine around the search."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from evo.data.corpus import CorpusError, load_corpus
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.document import parse
from evo.engines.inline import InlineEngine
from evo.engines.pool import PoolEngine
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory, Settings
from evo.evolution.search import Observer, Search


def default_workers(device: str) -> int:
    """One a core on a CPU, at most 8; one on an accelerator, where candidates share the device."""
    return min(8, os.cpu_count() or 1) if device == "cpu" else 1


def start(path: Path, settings: Settings, observer: Observer, *, force: bool = False) -> None:
    """Begin a run in a new directory and carry it to its end. `force` removes what an earlier run left there.

    Raises:
        DiagnosticError: a run is there already (EVO601), a corpus cannot be read (EVO500, EVO501), no seed trains.
    """
    corpora = {name: digest_of(name, settings.root) for name in sorted(set(map(corpus_of, settings.seeds)))}
    directory = RunDirectory(path)
    if force:
        remove_run(directory)
    directory.create(settings, corpora)
    _carry_out(directory, settings, observer)


def resume(path: Path, observer: Observer, workers: int | None = None) -> None:
    """Continue a run to its end, whatever stopped it. Does nothing to a finished run but write its files again."""
    directory = RunDirectory(path)
    settings = directory.load(workers)
    for name, digest in directory.corpora().items():
        if digest_of(name, settings.root) != digest:
            message = f"corpus '{name}' is no longer the text that this run began with"
            raise DiagnosticError([Diagnostic("EVO603", message, None, "put the old text back, or start a new run")])
    _carry_out(directory, settings, observer)


def remove_run(directory: RunDirectory) -> None:
    """Remove a run's own files; anything else in the folder stays."""
    for file in (directory.settings_file, directory.journal_file, *directory.reports):
        file.unlink(missing_ok=True)
    for folder in directory.path.glob("gen_[0-9][0-9][0-9][0-9]"):
        shutil.rmtree(folder)


def _carry_out(directory: RunDirectory, settings: Settings, observer: Observer) -> None:
    journal = Journal(directory.journal_file)
    try:
        with _engine(settings) as engine:
            Search(directory, settings, journal, engine, observer).run()
    finally:
        journal.close()


def _engine(settings: Settings) -> InlineEngine | PoolEngine:
    if settings.workers == 0:
        return InlineEngine()
    hard_limit = None if settings.max_seconds is None else 2 * settings.max_seconds + 60
    preload = ("evo.evolution.evaluate",)
    return PoolEngine(settings.workers, hard_limit, settings.max_memory_bytes, preload)


def corpus_of(document: str) -> str:
    """The corpus that a canonical document trains on."""
    return parse(document).document.train.task.corpus  # type: ignore[attr-defined]


def digest_of(corpus: str, root: str) -> str:
    """The content digest of a corpus. Raises DiagnosticError (EVO500) if it cannot be read."""
    try:
        return load_corpus(corpus, Path(root)).digest
    except CorpusError as error:
        raise DiagnosticError([Diagnostic("EVO500", error.message, None, error.help)]) from None
