"""`evo slo DIR FILE`: whether a training kept its service-level objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.base.rundirs import METRICS
from evo.cli import view
from evo.cli.documents import Json


def command(
    directory: Annotated[Path, typer.Argument(help="The folder that `evo train` wrote.", metavar="DIR")],
    file: Annotated[Path, typer.Argument(help="The objectives, in YAML.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Check a training's metrics against objectives.

    Exits with 1 where an objective was missed more often than its target allows.
    """
    from evo.slime.slo import judge, load_objectives

    found = judge(load_objectives(file), (directory / METRICS).read_bytes().decode(errors="replace").splitlines())
    if as_json:
        rows = [
            {**kept.objective.model_dump(), "lines": kept.count, "misses": kept.misses, "kept": kept.is_kept}
            for kept in found
        ]
        view.print_json("slo", {"objectives": rows})
    else:
        cells: list[tuple[str, ...]] = [("objective", "target", "kept", "lines", "misses", "budget", "")]
        for kept in found:
            numbers = (f"{kept.objective.target:.2%}", f"{kept.share:.2%}", str(kept.count), str(kept.misses))
            verdict = "ok" if kept.is_kept else "missed" if kept.count else "never measured"
            cells.append((str(kept.objective), *numbers, f"{kept.budget:.1f}", verdict))
        view.say(view.table(cells))
    if not all(kept.is_kept for kept in found):
        raise typer.Exit(1)
