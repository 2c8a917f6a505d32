"""`evo diff A B`: the patch between two documents, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid


def command(
    before: Annotated[Path, typer.Argument(metavar="A", help="The document before.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The document after.")],
    overrides: Overrides = None,
    as_json: Json = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where the documents differ.")] = False,
    as_patch: Annotated[bool, typer.Option("--patch", help="Print only the patch, as `evo apply` reads it.")] = False,
) -> int:
    """Show the patch between two documents and what it costs.

    Both are compared in their canonical forms, so order, spelling, comments and defaults make no difference. Relative
    paths are compared, and shown, as seen from the folder of A.
    """
    from evo.compiler.resolve import resolve
    from evo.dsl.canonical import content_hash
    from evo.dsl.compose.origins import folder_of
    from evo.dsl.patch import diff
    from evo.dsl.relocate import relocated
    from evo.report.costs import costs

    first, second = (loaded.document for loaded in read_valid(before, after, overrides=overrides))
    patch = diff(first, relocated(second, folder_of(str(after)), folder_of(str(before))))
    if as_patch and not as_json:
        view.say(patch.to_yaml(), end="")
    else:
        pair = [costs(resolve(document.organism)).to_data() for document in (first, second)]
        compared = {key: _compared(pair[0][key], pair[1][key]) for key in pair[0]}
        if as_json:
            hashes = dict(zip(("before", "after"), map(content_hash, (first, second)), strict=True))
            view.print_json("diff", {"patch": patch.to_data(), "costs": compared, "content_hash": hashes})
        else:
            _print(str(patch), compared)
    return 1 if exit_code and patch else 0


def _compared(before: float, after: float) -> dict[str, float | None]:
    from evo.report.costs import ratio

    return {"before": before, "after": after, "ratio": ratio(before, after)}


def _print(patch: str, compared: dict[str, dict[str, Any]]) -> None:
    from evo.report.costs import LABELS

    view.say_painted(view.coloured_patch(patch))
    rows = [["", "before", "after", "ratio"]]
    for key, cost in compared.items():
        shown = "new" if cost["ratio"] is None else f"{cost['ratio']:.3f}"
        rows.append([LABELS[key], view.count(cost["before"]), view.count(cost["after"]), shown])
    view.say(f"\n{view.table(rows)}")
