"""`evo render CFG`: a document with every default filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid


def command(
    cfg: Annotated[Path, typer.Argument(help="The document.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
    as_json: Json = False,
) -> None:
    """Write a document with every default filled in.

    What it extends and defines, and what --set puts there, is filled in too. `evo fmt` writes the opposite.
    """
    from evo.base.files import write_atomic
    from evo.compiler.filled import filled
    from evo.dsl.relocate import relocated
    from evo.dsl.yaml import write

    (loaded,) = read_valid(cfg, overrides=overrides)
    document = loaded.document
    if out is not None:
        from evo.evolution.rundir import root_of  # loads numpy, which printing has no need of

        document = relocated(document, root_of(cfg), out.parent)
        write_atomic(out, write(filled(document)))
    if as_json:
        view.print_json("render", {"document": filled(document), "out": None if out is None else str(out)})
    elif out is None:
        view.say(write(filled(document)), end="")
    else:
        view.say(f"wrote {out}")
