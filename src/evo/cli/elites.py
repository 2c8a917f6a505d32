"""`evo elites DIR`: who holds the cells of a run's archive."""

from __future__ import annotations

import csv
import io
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json
from evo.cli.status import Directory


def command(
    directory: Directory,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every number as CSV.")] = False,
    everybody: Annotated[bool, typer.Option("--all", help="All variants, failed ones too, in order.")] = False,
    as_json: Json = False,
) -> None:
    """List the elites of a run.

    The highest objective first. --csv has a column for every score, term of the objective and measure; the run may be
    going on.
    """
    from evo.report.runs import elites, read_report, row, table

    report = read_report(directory)
    chosen = list(report.variants) if everybody else elites(report)
    if as_json:
        view.print_json("elites", {"run": report.run, "elites": [row(report, variant) for variant in chosen]})
    elif as_csv:
        columns, rows = table(report, chosen)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([columns, *rows])
        view.say(text.getvalue(), end="")
    else:
        lines: list[tuple[str, ...]] = [
            ("id", "file", "objective", report.primary.label, "parameters", "FLOPs/token", "cell")
        ]
        for variant in chosen:
            numbers = [f"{value:.4f}" if value is not None else "-" for value in (variant.objective, variant.score)]
            cell = report.cells.get(variant.id)
            costs = (view.count(variant.parameters), view.count(variant.flops_per_token))
            lines.append((variant.id, variant.file, *numbers, *costs, "-" if cell is None else str(cell)))
        view.say(view.table(lines, left=2))
