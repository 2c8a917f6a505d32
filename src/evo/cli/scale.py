"""`evo scale CFG --params 100M`: the same shape at another number of parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from evo.cli import view
from evo.cli.documents import Json, Overrides, read_valid

By = Annotated[
    Literal["stretching", "stacking"],
    typer.Option("--by", help="How it gets deeper: each stage in place, or the whole of them after itself."),
]
SUFFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}


def command(
    cfg: Annotated[Path, typer.Argument(help="The document.")],
    params: Annotated[str, typer.Option(help="How many parameters, such as 300k, 100M or 1.5B.")],
    way: By = "stretching",
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Write it here instead of printing it.")] = None,
    as_json: Json = False,
) -> None:
    """Write a document's organism at another size.

    Widths and heads grow together, depth with them, and learning rates follow the width.
    """
    from evo.base.files import write_atomic
    from evo.compiler.resolve import resolve
    from evo.compiler.scale import scaled
    from evo.dsl.canonical import to_yaml
    from evo.dsl.relocate import relocated

    wanted = size_of(params, "--params")
    (loaded,) = read_valid(cfg, overrides=overrides)
    document = scaled(loaded.document, wanted, way)
    before, after = (resolve(own.organism).parameters for own in (loaded.document, document))
    if out is not None:
        from evo.evolution.rundir import root_of  # loads numpy, which printing has no need of

        document = relocated(document, root_of(cfg), out.parent)
        write_atomic(out, to_yaml(document))
    if as_json:
        written = None if out is None else str(out)
        view.print_json("scale", {"parameters": after, "before": before, "document": to_yaml(document), "out": written})
    elif out is None:
        view.say(to_yaml(document), end="")
    else:
        view.say(f"wrote {out}: {before:,} parameters became {after:,}")


def size_of(text: str, option: str) -> float:
    """A number of parameters as people write it. Raises typer.BadParameter, which names the option."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMB]?)", text)
    if found is None or not float(found[1]):
        message = f"'{text}' is not a number of parameters such as 300k, 100M or 1.5B"
        raise typer.BadParameter(message, param_hint=option)
    return float(found[1]) * SUFFIXES[found[2]]
