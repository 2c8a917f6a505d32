"""The settings of a run, and `run.yaml`, which holds them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evo import __version__
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.paths import moved
from evo.compiler.compute import budget_of, step_tokens, steps_of
from evo.dsl.budget import BudgetSpec
from evo.dsl.canonical import to_data, to_yaml
from evo.dsl.document import Document, parse
from evo.dsl.evolve import EvolveSpec
from evo.dsl.task import Score
from evo.dsl.yaml import read_file, write
from evo.evolution.candidate import candidate_id
from evo.evolution.documents import document_of
from evo.evolution.founders import Founder
from evo.evolution.trial import FULL_BUDGET, Budget

RUN_VERSION = 4
"""Of run.yaml. A run of another version is refused, never migrated."""
MOST_WORKERS = 1024
"""Processes of one run."""


@dataclass(frozen=True)
class Settings:
    """Everything that a run's result depends on, and how it is carried out.

    seeds: canonical YAML of the seed documents. root: the folder that relative corpus paths start from. budget: what a
    measurement reads. task_digest: of what all seeds learn; empty where it is not held to. founders: the weights that
    the seeds of a search begun warm begin from, one a seed; otherwise none. workers and the limits say how: they do not
    change the result of candidates within them.
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
    task_digest: str = ""
    founders: tuple[Founder, ...] = ()

    @cached_property
    def primary(self) -> Score:
        """The score that the search improves. Raises DiagnosticError if the seeds have several (EVO621)."""
        return primary_of(self.seeds)

    @property
    def train_budget(self) -> BudgetSpec:
        """What each candidate is trained for by the end of the last rung: as much as the first seed."""
        return budget_of(document_of(self.seeds[0]))

    @property
    def founder_by_seed(self) -> dict[str, Founder]:
        """The founders by the candidates that the seeds become."""
        return {candidate_id(0, slot): founder for slot, founder in enumerate(self.founders)}

    @property
    def age(self) -> float:
        """What every candidate may take beyond its share of the budget, in its unit: the training behind the oldest
        founder. So all get equal compute, ancestors' included."""
        return max((founder.charge for founder in self.founders), default=0.0)

    def of_generations(self, generations: int) -> Settings:
        """The same settings for another number of generations."""
        if generations == self.evolve.generations:
            return self
        evolve = {**to_data(self.evolve), "generations": generations}
        document = parse(write({**to_data(parse(self.seeds[0]).document), "evolve": evolve})).document
        return replace(self, evolve=document.evolve)

    @property
    def verify_budget(self) -> BudgetSpec:
        """What the contestants of the verdict are trained for."""
        return self.evolve.verify.budget or self.train_budget

    @property
    def digest(self) -> str:
        """A name of all that results depend on: everything but root, engine, workers and limits.

        What a root holds is known by the digest of the task.
        """
        evolve = {key: value for key, value in to_data(self.evolve).items() if key != "engine"}
        known = (self.seeds, evolve, self.device, self.kernels, asdict(self.budget), self.task_digest)
        known += tuple(founder.model_dump() for founder in self.founders)
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]


def budget_after(document: Document) -> Budget:
    """What measurements read in a search that begins with a document, for all candidates alike."""
    return FULL_BUDGET.after(steps_of(document) * step_tokens(document))


def primary_of(seeds: tuple[str, ...]) -> Score:
    """The primary score of the seeds' tasks. Raises DiagnosticError if it is not one for all (EVO621)."""
    scores = dict.fromkeys(document_of(seed).train.task.primary for seed in seeds)
    if len(scores) > 1:
        names = ", ".join(score.name for score in scores)
        raise DiagnosticError([Diagnostic("EVO621", f"the seeds' tasks have different primary scores: {names}")])
    return next(iter(scores))


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Execution(_Part):
    """How a run is carried out."""

    device: str
    kernels: str
    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)]
    max_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    max_memory: Annotated[int, Field(gt=0)] | None


class RunFile(_Part):
    """`run.yaml` as it stands.

    root: relative to its folder. corpora: the content digest of each corpus by name, all the same. environment: what
    it was begun with, for people. founders: none, or one a seed.
    """

    evo_run: int
    evolve: dict[str, Any]
    seeds: list[dict[str, Any]]
    root: str
    corpora: dict[str, str]
    budget: dict[str, int]
    execution: _Execution
    environment: dict[str, Any]
    founders: list[Founder] = []

    def settings(self, folder: Path) -> Settings:
        """The settings that it holds in a folder. Raises DiagnosticError, TypeError, ValueError or IndexError where it
        makes no sense."""
        if len(set(self.corpora.values())) > 1:
            raise ValueError("its corpora differ")
        if self.founders and len(self.founders) != len(self.seeds):
            raise ValueError("it has founders for some seeds only")
        return Settings(
            seeds=tuple(to_yaml(parse(write(seed)).document) for seed in self.seeds),
            root=str((folder / self.root).resolve()),
            evolve=parse(write({**self.seeds[0], "evolve": self.evolve})).document.evolve,
            device=self.execution.device,
            kernels=self.execution.kernels,
            workers=self.execution.workers,
            max_seconds=self.execution.max_seconds,
            max_memory_bytes=self.execution.max_memory,
            budget=Budget(**self.budget),
            task_digest=next(iter(self.corpora.values()), ""),
            founders=tuple(self.founders),
        )


def read_run_file(path: Path) -> RunFile:
    """Read `run.yaml`. Raises DiagnosticError for another version or what is not one (EVO600)."""
    data = read_file(path)[0].plain()
    found = data.get("evo_run") if isinstance(data, dict) else None
    if found != RUN_VERSION:
        message = f"{path}: its version is {found}, and this evo reads version {RUN_VERSION}"
        raise DiagnosticError([Diagnostic("EVO600", message, None, "finish it with the evo that began it")])
    try:
        run_file = RunFile.model_validate(data)
        run_file.settings(path.parent)
    except (TypeError, ValueError, IndexError, ValidationError, DiagnosticError) as error:
        help = "put back what stood there; root, engine, workers and limits may be changed by hand"
        raise DiagnosticError([Diagnostic("EVO600", f"{path} is damaged: {_reason(error)}", None, help)]) from None
    return run_file


def _reason(error: Exception) -> str:
    """What is wrong with the file, on one line."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    first = error.errors(include_url=False, include_context=False)[0]
    where, found = ".".join(map(str, first["loc"])), repr(first["input"])[:60]
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}, found {found}"


def changed(run_file: RunFile, settings: Settings, folder: Path) -> RunFile:
    """Of a run that goes on with other generations, another limit or root; all else stays as it is written."""
    data = run_file.model_dump()
    data["evolve"] = to_data(settings.evolve)
    data["execution"]["max_seconds"] = settings.max_seconds
    if str((folder / run_file.root).resolve()) != settings.root:
        data["root"] = moved(".", Path(settings.root), folder)
    return RunFile.model_validate(data)


def run_file_text(settings: Settings, corpora: dict[str, str], folder: Path) -> str:
    """`run.yaml` of new settings, for a folder: with it and what stands around it the run can be moved."""
    import torch

    environment = {
        "evo": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": f"{sys.platform} {platform.machine()}",
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    execution = _Execution(
        device=settings.device,
        kernels=settings.kernels,
        workers=settings.workers,
        max_seconds=settings.max_seconds,
        max_memory=settings.max_memory_bytes,
    )
    run_file = RunFile(
        evo_run=RUN_VERSION,
        evolve=to_data(settings.evolve),
        seeds=[to_data(parse(seed).document) for seed in settings.seeds],
        root=moved(".", Path(settings.root), folder),
        corpora=corpora,
        budget=asdict(settings.budget),
        execution=execution,
        environment=environment,
        founders=list(settings.founders),
    )
    return write(run_file.model_dump())
