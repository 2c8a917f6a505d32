"""`evo import PATH`: a model of another tool as a document, and its weights as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo.cli import view
from evo.cli.documents import Json


def command(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="A folder with config.json and safetensors, a config.json, or a .gguf file.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The document to write; printed if left out.")] = None,
    weights: Annotated[Path | None, typer.Option("--weights", help="The checkpoint to write.")] = None,
    kind: Annotated[str | None, typer.Option("--as", help="The known type to read an unknown one as.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the architectures that can be read.")] = False,
    as_json: Json = False,
) -> int:
    """Read a Hugging Face model, or a GGUF file, as a document.

    The document is the architecture, and trains with the folder's tokenizer.json if there is one; with --weights, the
    folder's safetensors, or the file's tensors, become a checkpoint that `evo generate` and `evo evolve` start from.
    Nothing is downloaded. A type that no family reads is read --as one that is, if that understands every key.
    """
    from evo.interop.families import FAMILIES, types

    if listed:
        return _list(sorted(types()), len(FAMILIES), as_json)
    if path is None:
        raise typer.BadParameter("a folder, a config.json or a .gguf file is needed", context, param_hint="PATH")
    from evo.base.files import write_atomic
    from evo.dsl.canonical import to_yaml
    from evo.interop.document import import_document

    imported = import_document(path, out.parent if out is not None else Path(), kind)
    text = to_yaml(imported.document)
    if weights is not None:
        from evo.interop.checkpoint import import_weights
        from evo.interop.gguf_file import SUFFIX

        is_config = path.is_file() and path.suffix != SUFFIX
        import_weights(imported, path.parent if is_config else path, weights)
    if out is not None:
        write_atomic(out, text)
    if as_json:
        written = {"document": str(out) if out else text, "weights": str(weights) if weights else None}
        view.print_json("import", {"type": imported.type, **written})
    elif out is None:
        view.say(text.rstrip())
    else:
        view.say(f"wrote {out}{f' and {weights}' if weights else ''}: {imported.type}, {len(text.splitlines())} lines")
    return 0


def _list(names: list[str], families: int, as_json: bool) -> int:
    if as_json:
        view.print_json("import", {"types": names})
    else:
        view.say(f"{len(names)} architectures of {families} families: {', '.join(names)}")
    return 0
