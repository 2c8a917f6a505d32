"""`evo compare A B [C...]`: variants side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json

if TYPE_CHECKING:
    from evo.report.compare import Comparison


def command(
    context: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(metavar="VARIANT", help="Variants of runs, runs (their best variants), documents.")
    ],
    as_json: Json = False,
) -> None:
    """Show variants side by side: patch, costs, scores, learning.

    The patches are those from the first to each other one. Of variants there are also the scores of the search, the
    weighted terms of the objective, the measures, and the training loss on the way.
    """
    from evo.report.compare import compare

    if len(paths) < 2:
        raise typer.BadParameter("two or more are compared", context, param_hint="VARIANT...")
    found = compare(paths)
    if as_json:
        names = [column.name for column in found.columns]
        view.print_json("compare", {"columns": names, "patches": found.patches, "numbers": found.rows()})
    else:
        view.say_painted("\n\n".join(_shown(found)))


def _shown(found: Comparison) -> list[str]:
    first, *others = found.columns
    parts = [
        f"{view.bold(f'{first.name} -> {other.name}')}\n{view.coloured_patch(found.patches[other.name])}"
        for other in others
    ]
    rows: list[list[str]] = [["", *(column.name for column in found.columns)]]
    for section, numbers in found.rows().items():
        rows.append([section, *("" for _ in found.columns)])
        rows += [[f"  {name}", *map(_number, values)] for name, values in numbers.items()]
    return [*parts, view.safe(view.table(rows))]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return view.count(value) if abs(value) >= 1000 or value == int(value) else f"{value:.4f}"
