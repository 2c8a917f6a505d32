"""`evo export CHECKPOINT`: a trained organism as a model of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json


def command(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, as `evo train` or `evo import --weights` writes it.")
    ],
    like: Annotated[
        Path, typer.Option("--like", help="A folder with the config.json and safetensors that it was imported from.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    as_json: Json = False,
) -> int:
    """Write a checkpoint as a model of Hugging Face's.

    The architecture must be that of the folder; its tensors are taken over, and the weights put where they lay.
    """
    from evo.interop.checkpoint import export_weights

    count = export_weights(checkpoint, like, out)
    if as_json:
        view.print_json("export", {"folder": str(out), "tensors": count})
    else:
        view.say(f"wrote {out}: config.json and {count} tensors")
    return 0
