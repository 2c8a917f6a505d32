"""`evo watch DIR`: where a run stands, again and again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.status import Directory, lines


def command(
    directory: Directory,
    every: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds between two looks.")] = 5.0,
) -> None:
    """Follow a run that another process carries out.

    Prints where it stands whenever that changes, and ends with the run.
    """
    from evo.evolution.status import status

    shown: list[str] = []
    while True:
        found = status(directory)
        if (now := lines(found)) != shown:
            view.say("\n".join(now), flush=True)
            shown = now
        if found.is_finished or not found.is_going_on:
            return
        time.sleep(every)
