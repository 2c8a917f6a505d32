"""`evo runs DIR`: the runs of a folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.documents import Json

USUAL = Path("results")


def command(
    folder: Annotated[Path, typer.Argument(help="Where to look; its folders are searched too.")] = USUAL,
    as_json: Json = False,
) -> None:
    """List the runs of a folder.

    Each with its state, its size, its best variant, and the best score with whose it is. A run that cannot be read is
    told with its reason.
    """
    from evo.base.rundirs import runs_in
    from evo.evolution.status import status

    if not folder.is_dir() and folder != USUAL:  # which the first search makes
        raise DiagnosticError([Diagnostic("EVO600", f"{folder} is no folder", None, "name one that holds runs")])
    found = []
    for path in runs_in(folder):
        try:
            found.append((path, status(path)))
        except DiagnosticError as error:
            view.show(error.diagnostics)
    if as_json:
        view.print_json("runs", {"runs": [{"run": str(path), **asdict(own)} for path, own in found]})
        return
    if not found:
        help = "`evo evolve CFG` makes one in results"
        view.show([Diagnostic("EVO600", f"no run is in {folder}", None, help, "warning")])
        return
    rows = [("run", "state", "generation", "candidates", "failed", "best", "best score")]
    for path, own in found:
        state = "finished" if own.is_finished else "going on" if own.is_going_on else "stopped"
        score = "-" if own.best_score is None else f"{own.best_score:.4f} ({own.best_scored})"
        made = f"{own.generation}/{own.generations}"
        failed = str(sum(own.failures.values()))
        rows.append((str(path), state, made, str(own.candidates), failed, own.best or "-", score))
    view.say(view.table(rows, left=2))
