"""A run directory: where its files are and how they are written. The journal is the truth, the files are for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic
from evo.base.rundirs import (
    GENERATION,
    JOURNAL,
    JOURNAL_SIDES,
    LOCK,
    REPORTS,
    SETTINGS,
    UNFINISHED,
    VARIANT,
    is_run,
    run_of,
)  # fmt: skip
from evo.dsl.yaml import write
from evo.evolution.candidate import Candidate
from evo.evolution.founders import remove_founders, write_founders
from evo.evolution.settings import RunFile, Settings, changed, read_run_file, run_file_text
from evo.evolution.states import States

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """What is needed to repeat the run."""
        return self.path / SETTINGS

    @property
    def journal_file(self) -> Path:
        """The journal."""
        return self.path / JOURNAL

    @property
    def lock_file(self) -> Path:
        """What a process holds while it carries the run out; empty."""
        return self.path / LOCK

    def variant(self, candidate: Candidate) -> Path:
        """The YAML of a candidate; its snapshot stands beside it."""
        return self.path / f"gen_{candidate.generation:04d}" / f"variant_{candidate.slot:02d}.yaml"

    def create(self, settings: Settings, corpora: dict[str, str], founders: Sequence[bytes] = ()) -> None:
        """Make the directory. founders: weights of the settings' founders.

        Raises:
            DiagnosticError: a run is there already, or files that a run would overwrite (EVO601).
        """
        taken = next(self.own_files(), None)
        if taken is not None:
            message, help = (
                f"{self.path} already holds a run",
                f"`evo resume {self.path}` continues it, beyond its end with --generations; --force starts anew",
            )
            if not is_run(self.path):
                message, help = f"{taken} is there, and no run that wrote it", "--out names another folder"
            raise DiagnosticError([Diagnostic("EVO601", message, None, help)])
        write_founders(self.path, founders)  # before run.yaml, which makes it a run
        write_atomic(self.settings_file, run_file_text(settings, corpora, self.path))

    def require_outside(self) -> None:
        """Raise DiagnosticError where a run is around this folder (EVO601): neither would leave the other alone."""
        around = next((folder for folder in self.path.resolve().parents if is_run(folder)), None)
        if around is not None:
            message, help = f"{self.path} lies inside the run {around}", "--out names a folder beside it"
            raise DiagnosticError([Diagnostic("EVO601", message, None, help)])

    def require_journal(self) -> None:
        """Raise DiagnosticError (EVO600) where generations stand without the journal that they came from.

        To begin anew would write over them, and take as long again.
        """
        if not self.folders() or (self.journal_file.exists() and self.journal_file.stat().st_size):
            return
        message = f"{self.path} has generations, but its journal is gone or empty ({self.journal_file.name})"
        help = "put it back from a copy; without it the run can only begin anew: evo evolve ... --force"
        raise DiagnosticError([Diagnostic("EVO600", message, None, help)])

    @property
    def reports(self) -> tuple[Path, Path]:
        """What is written after the search: for programs, and for people."""
        as_json, as_html = REPORTS
        return self.path / as_json, self.path / as_html

    def own_files(self) -> Iterator[Path]:
        """The files there are of those that a run writes; `run.yaml` last, so that a run stays one while they go."""
        for folder in self.folders():
            yield from sorted(file for file in folder.iterdir() if VARIANT.fullmatch(file.name))
        names = (*REPORTS, *JOURNAL_SIDES, JOURNAL, SETTINGS)
        yield from (file for name in names if (file := self.path / name).exists())

    def remove(self) -> None:
        """Remove what a run wrote, and its empty folders; anything else stays, and so does all where no run is."""
        if not is_run(self.path):
            return
        self.sweep()
        States(self.path).clear()
        remove_founders(self.path)
        for file in list(self.own_files()):
            file.unlink(missing_ok=True)
        for folder in self.folders():
            if not any(folder.iterdir()):
                folder.rmdir()

    def folders(self) -> list[Path]:
        """The folders there are that are called as those of generations."""
        return sorted(path for path in self.path.glob("gen_*") if GENERATION.fullmatch(path.name) and path.is_dir())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block no other process carries this run out; a process that dies lets go. POSIX only.

        The folder is made if it is missing. The lock is on a file of its own, which no editor replaces.

        Raises:
            DiagnosticError: another process does (EVO604).
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            yield
            return
        with self.lock_file.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                help = "wait for it, or stop it and resume"
                message = f"another process is carrying out {self.path}"
                raise DiagnosticError([Diagnostic("EVO604", message, None, help)]) from None
            yield

    def is_held(self) -> bool:
        """Whether a process carries the run out at this moment; false where that cannot be known."""
        if fcntl is None or not self.lock_file.exists():
            return False
        with self.lock_file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def sweep(self) -> None:
        """Remove what a kill left of files that were being written."""
        for folder in (self.path, *self.folders()):
            for file in folder.glob(".*"):
                if UNFINISHED.fullmatch(file.name):
                    file.unlink(missing_ok=True)

    def load(self, workers: int | None = None) -> Settings:
        """The settings of an existing run, on another number of workers if one is given.

        Raises:
            DiagnosticError: there is no run, or one of another version (EVO600).
        """
        settings = self.run_file().settings(self.path)
        return settings if workers is None else replace(settings, workers=workers)

    def change(self, settings: Settings) -> None:
        """Write generations, the limit of time and the root into `run.yaml`, where it holds other ones."""
        before = self.run_file()
        after = changed(before, settings, self.path)
        if after != before:
            write_atomic(self.settings_file, write(after.model_dump()))

    def run_file(self) -> RunFile:
        """`run.yaml` as it stands.

        Raises:
            DiagnosticError: there is no run, or one of another version (EVO600).
        """
        if not self.settings_file.is_file():
            help = "a run directory holds run.yaml and journal.sqlite"
            raise DiagnosticError([Diagnostic("EVO600", f"{self.path} is not a run directory", None, help)])
        return read_run_file(self.settings_file)


def root_of(document: Path) -> Path:
    """The folder that relative paths in a document's file start from: its own; of a run's variant, the run's root.

    Raises:
        DiagnosticError: the run's settings cannot be read (EVO600).
    """
    file = document.resolve()
    run = run_of(file)
    return file.parent if run is None else Path(RunDirectory(run).load().root)
