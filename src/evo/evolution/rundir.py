"""A run directory: where its files are and how they are written. The journal is the truth, the files are for people."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evo import __version__
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.task import Score
from evo.dsl.yaml import read_file, write
from evo.evolution.candidate import Candidate
from evo.evolution.trial import FULL_BUDGET, Budget

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

RUN_VERSION = 2
"""Of run.yaml. A run of another version is refused, never migrated."""
GENERATION = re.compile(r"gen_\d{4,}")
UNFINISHED = re.compile(r"\.(run\.yaml|search_report\.json|report\.html|variant_\d+\.(yaml|safetensors))\.\w+")
"""Names of `write_atomic` for files whose writing did not end."""


@dataclass(frozen=True)
class Settings:
    """Everything that a run's result depends on, and how it is carried out.

    seeds: canonical YAML of the seed documents. root: the folder that relative corpus paths start from. budget: what a
    measurement reads. workers and the limits say how: they do not change the result of candidates within them.
    """

    seeds: tuple[str, ...]
    root: str
    evolve: EvolveSpec
    device: str = "cpu"
    kernels: str = "auto"
    workers: int = 1
    max_seconds: float | None = None
    max_memory_bytes: int | None = None
    budget: Budget = FULL_BUDGET

    @property
    def primary(self) -> Score:
        """The score that the search improves. Raises DiagnosticError if the seeds have several (EVO621)."""
        return primary_of(self.seeds)


def primary_of(seeds: tuple[str, ...]) -> Score:
    """The primary score of the seeds' tasks. Raises DiagnosticError if it is not one for all (EVO621)."""
    scores = dict.fromkeys(parse(seed).document.train.task.primary for seed in seeds)
    if len(scores) > 1:
        names = ", ".join(score.name for score in scores)
        raise DiagnosticError([Diagnostic("EVO621", f"the seeds' tasks have different primary scores: {names}")])
    return next(iter(scores))


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """What is needed to repeat the run."""
        return self.path / "run.yaml"

    @property
    def journal_file(self) -> Path:
        """The journal."""
        return self.path / "journal.sqlite"

    def variant(self, candidate: Candidate) -> Path:
        """The YAML of a candidate; its snapshot stands beside it."""
        return self.path / f"gen_{candidate.generation:04d}" / f"variant_{candidate.slot:02d}.yaml"

    def create(self, settings: Settings, corpora: dict[str, str]) -> None:
        """Make the directory. Raises DiagnosticError (EVO601) if a run is there already."""
        if self.settings_file.exists() or self.journal_file.exists():
            help = f"`evo resume {self.path}` continues it; --force starts anew"
            raise DiagnosticError([Diagnostic("EVO601", f"{self.path} already holds a run", None, help)])
        write_atomic(self.settings_file, write(settings_data(settings, corpora)))

    @property
    def reports(self) -> tuple[Path, Path]:
        """What is written after the search: for programs, and for people."""
        return self.path / "search_report.json", self.path / "report.html"

    def folders(self) -> list[Path]:
        """The folders of the generations there are."""
        return sorted(path for path in self.path.glob("gen_*") if GENERATION.fullmatch(path.name) and path.is_dir())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block no other process carries this run out; a process that dies lets go. POSIX only.

        Raises:
            DiagnosticError: another process does (EVO604).
        """
        if fcntl is None or not self.settings_file.exists():
            yield
            return
        with self.settings_file.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                help = "wait for it, or stop it and resume"
                message = f"another process is carrying out {self.path}"
                raise DiagnosticError([Diagnostic("EVO604", message, None, help)]) from None
            yield

    def sweep(self) -> None:
        """Remove what a kill left of files that were being written."""
        for folder in (self.path, *self.folders()):
            for file in folder.glob(".*"):
                if UNFINISHED.fullmatch(file.name):
                    file.unlink(missing_ok=True)

    def corpora(self) -> dict[str, str]:
        """The content digest of each corpus that the run began with."""
        return self._data().get("corpora") or {}

    def load(self, workers: int | None = None) -> Settings:
        """The settings of an existing run, on another number of workers if one is given.

        Raises:
            DiagnosticError: there is no run (EVO600).
        """
        data = self._data()
        try:
            how = data["how"]
            evolve = parse(write({**data["seeds"][0], "evolve": data["evolve"]})).document.evolve
            seeds = tuple(to_yaml(parse(write(seed)).document) for seed in data["seeds"])
            count = how["workers"] if workers is None else workers
            return Settings(
                seeds=seeds,
                root=data["root"],
                evolve=evolve,
                device=how["device"],
                kernels=how["kernels"],
                workers=count,
                max_seconds=how["max_seconds"],
                max_memory_bytes=how["max_memory"],
                budget=Budget(**data["budget"]),
            )
        except (KeyError, TypeError, IndexError, DiagnosticError) as error:
            message = f"{self.settings_file} is damaged: {type(error).__name__}: {error}"
            raise DiagnosticError([Diagnostic("EVO600", message)]) from None

    def _data(self) -> dict[str, Any]:
        if not self.settings_file.is_file():
            help = "a run directory holds run.yaml and journal.sqlite"
            raise DiagnosticError([Diagnostic("EVO600", f"{self.path} is not a run directory", None, help)])
        data = read_file(self.settings_file)[0].plain()
        found = data.get("evo_run") if isinstance(data, dict) else None
        if not isinstance(data, dict) or found != RUN_VERSION:
            message = f"{self.settings_file}: its version is {found}, and this evo reads version {RUN_VERSION}"
            raise DiagnosticError([Diagnostic("EVO600", message, None, "finish it with the evo that began it")])
        return data


def settings_data(settings: Settings, corpora: dict[str, str]) -> dict[str, Any]:
    """`run.yaml` as plain data."""
    import torch

    return {
        "evo_run": RUN_VERSION,
        "evolve": to_data(settings.evolve),
        "seeds": [to_data(parse(seed).document) for seed in settings.seeds],
        "root": settings.root,
        "corpora": corpora,
        "budget": asdict(settings.budget),
        "how": {
            "device": settings.device,
            "kernels": settings.kernels,
            "workers": settings.workers,
            "max_seconds": settings.max_seconds,
            "max_memory": settings.max_memory_bytes,
        },
        "made_with": {
            "evo": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "platform": f"{sys.platform} {platform.machine()}",
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
