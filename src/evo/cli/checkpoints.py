"""Checkpoints as commands are given them: a file, the folder of a training, or a variant of a search."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from evo.training.checkpoint import Checkpoint

Given = Annotated[
    Path,
    typer.Argument(
        help="A checkpoint, as `evo train` or `evo import --weights` writes it, or its folder; "
        "or a variant of a search that keeps its exact weights."
    ),
]


def load_given(path: Path) -> Checkpoint:
    """The checkpoint in a file or folder. Raises DiagnosticError (EVO602), for a run or a snapshot with the way on."""
    from evo.training.checkpoint import load_checkpoint

    with helping(path) as file:
        return load_checkpoint(file)


@contextmanager
def helping(path: Path) -> Iterator[Path]:
    """The file that is meant; where the block finds it to be no checkpoint (EVO602), the fault says what makes one."""
    from evo.base.rundirs import exact_or

    try:
        yield exact_or(path)
    except DiagnosticError as error:
        told = [replace(fault, help=_way_on(path)) if fault.code == "EVO602" else fault for fault in error.diagnostics]
        raise DiagnosticError(told, error.source) from None


def _leader(run: Path) -> str | None:
    """The snapshot of the best variant of a run, from its folder, by its report; None where that tells of none."""
    from evo.base.rundirs import REPORTS

    try:
        report = json.loads((run / REPORTS[0]).read_text(encoding="utf-8"))
        files = {variant["id"]: variant["file"] for variant in report["variants"]}
        return str(Path(files[report["best_scored"]]).with_suffix(".safetensors"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _way_on(path: Path) -> str:
    variant = "gen_0001/variant_00.safetensors"
    if (path / "run.yaml").is_file():
        variant = shlex.quote(str(path / (_leader(path) or variant)))
    elif path.suffix == ".safetensors" or path.with_suffix(".safetensors").is_file():
        variant = shlex.quote(str(path.with_suffix(".safetensors")))
    elif path.suffix in (".yaml", ".yml"):
        return f"`evo train {shlex.quote(str(path))}` makes a checkpoint of a document"
    return f"of a variant of a search, `evo snapshot restore {variant} --out best.safetensors` makes a checkpoint"
