"""What a run directory can do without: files that its journal can write again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evo.base.rundirs import STATES, VARIANT, is_exact
from evo.evolution.rundir import RunDirectory


@dataclass(frozen=True)
class Pruned:
    """What went, or would go: files with their bytes."""

    files: tuple[Path, ...]
    nbytes: int


def prune(folder: Path, kept: frozenset[Path], *, is_dry: bool) -> Pruned:
    """Remove the files of variants that are not kept, and the states of trainings that might go on.

    The journal stays whole, so that `evo resume` writes every file again, and nothing is lost but the steps that states
    save. Weights as they were trained stay, which the journal does not hold. kept: files of variants, beside which
    their snapshots stay.

    Raises:
        DiagnosticError: there is no run (EVO600), or it is going on (EVO604).
    """
    directory = RunDirectory(folder)
    directory.load()
    with directory.held():
        files = tuple(_dispensable(directory, kept))
        nbytes = sum(file.stat().st_size for file in files)
        if not is_dry:
            for file in files:
                file.unlink(missing_ok=True)
            for generation in directory.folders():
                if not any(generation.iterdir()):
                    generation.rmdir()
    return Pruned(files, nbytes)


def _dispensable(directory: RunDirectory, kept: frozenset[Path]) -> Iterator[Path]:
    for folder in directory.folders():
        for file in sorted(folder.iterdir()):
            if VARIANT.fullmatch(file.name) and not is_exact(file) and file.with_suffix(".yaml") not in kept:
                yield file
    states = directory.path / STATES
    if states.is_dir():
        yield from sorted(file for file in states.iterdir() if file.is_file())
