"""`evo resume DIR`: the rest of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json
from evo.cli.options import MOST_SECONDS, MOST_THREADS, finite
from evo.cli.tracking import Track, trackers_of


def command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run directory.")],
    workers: Annotated[
        int | None, typer.Option(min=0, max=MOST_THREADS, help="Processes; as before if left out.")
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Extend the run to so many generations in all.")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(min=1, max=MOST_SECONDS, callback=finite, help="The longest one candidate may train from now on."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="The folder that relative corpus paths start from, where that was moved.")
    ] = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Continue an interrupted run.

    The result is that of an uninterrupted run, byte for byte on the same hardware. A finished run's files are written
    again from its journal. With --generations it goes on: the schedule is recomputed, and so is the verdict. A run that
    was moved without its text is told by --root where that lies now.
    """
    from evo.cli.evolve import carry_out
    from evo.evolution.run import resume
    from evo.evolution.rundir import RunDirectory
    from evo.evolution.status import status

    run = RunDirectory(directory)
    settings, trackers = run.load(), trackers_of(track)
    # a disk that filled up at the start leaves a run without a journal, or with an empty one
    has_begun = run.journal_file.is_file() and run.journal_file.stat().st_size > 0
    if generations is None and has_begun and status(directory).is_finished:
        view.say("the run is finished: its files are written again; --generations goes on", file=sys.stderr)
    if generations is not None:
        settings = settings.of_generations(max(generations, settings.evolve.generations))
    carry_out(
        directory,
        settings,
        as_json,
        lambda observer: resume(
            directory,
            observer,
            workers,
            root=root,
            generations=generations,
            max_seconds=max_seconds,
            trackers=trackers,
        ),
        whose="resume",
    )
