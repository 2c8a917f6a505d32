"""`evo prune DIR`: a smaller run directory."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json
from evo.cli.status import Directory


def command(
    directory: Directory,
    dry: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the files of a run that its journal can write again.

    Elites, the best variants and their lines of first parents stay. `evo resume` writes everything again.
    """
    from evo.evolution.prune import prune
    from evo.report.runs import elites, lineage, read_report

    report = read_report(directory)
    kept = {variant.id for variant in elites(report)} | {id for id in (report.best, report.best_scored) if id}
    files = {directory / variant.file for id in kept for variant in lineage(report, id)}
    found = prune(directory, frozenset(files), is_dry=dry)
    if as_json:
        names = [str(file) for file in found.files]
        view.print_json("prune", {"removed": not dry, "files": names, "bytes": found.nbytes})
        return
    verb = "would remove" if dry else "removed"
    view.say(
        f"{verb} {view.plural(len(found.files), 'file')}, {found.nbytes:,} bytes; "
        f"`evo resume {shlex.quote(str(directory))}` writes them again"
    )
