"""`evo serve DIR`: the report of a run, live, for a browser on this machine."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.status import Directory

PORT = 8750


def command(
    directory: Directory,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="On this machine; 0 takes any that is free.")] = PORT,
) -> None:
    """Show the report of a run in a browser while it goes on.

    The page renews itself. Nobody but this machine can reach it, and nothing of the run is changed. Ctrl-C ends it.
    """
    from evo.report.serve import serving

    with serving(directory, port) as server:
        try:
            view.say(f"{server.address} shows {directory}; Ctrl-C ends it", flush=True)
            server.serve_forever()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses it twice gets no traceback for that
            view.say("\nended", flush=True)
