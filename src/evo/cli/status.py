"""`evo status DIR`: where a run stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json

if TYPE_CHECKING:
    from evo.evolution.status import Status

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The run directory.")]


def command(directory: Directory, as_json: Json = False) -> None:
    """Say where a run stands.

    The run may be going on in another process; nothing is changed.
    """
    from dataclasses import asdict

    from evo.evolution.status import status

    found = status(directory)
    if as_json:
        view.print_json("status", asdict(found))
    else:
        view.say("\n".join(lines(found)))


def lines(status: Status) -> list[str]:
    """A status for a person."""
    state = (
        "finished" if status.is_finished else "going on" if status.is_going_on else "stopped; `evo resume` continues"
    )
    found = [
        f"{state}: generation {status.generation} of {status.generations}, {status.evaluated} of "
        f"{view.plural(status.trials, 'trial')} evaluated; {view.plural(status.candidates, 'candidate')} in all, "
        f"{status.busy_s:,.0f} s of evaluation"
    ]
    if status.failures:
        found.append("failed: " + ", ".join(f"{cause} {number}" for cause, number in status.failures.items()))
    if status.best is not None:
        scored = f"; best {status.score.replace('_', ' ')} {status.best_score:.4f} ({status.best_scored})"
        found.append(f"best: {status.best}{scored if status.best_score is not None else ''}")
    return found
