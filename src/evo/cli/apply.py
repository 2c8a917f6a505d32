"""`evo apply PATCH CFG`: a changed document."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.documents import Json, Overrides, is_patch, read_valid


def command(
    patch: Annotated[Path, typer.Argument(metavar="PATCH", help="A patch, as `evo diff --patch` prints it.")],
    config: Annotated[Path, typer.Argument(metavar="CFG", help="The document it changes; the file stays as it is.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the result here instead of printing it.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", "-R", help="Undo the patch instead.")] = False,
    overrides: Overrides = None,
    as_json: Json = False,
) -> int:
    """Apply a patch to a document.

    The result is validated and in canonical form. A patch that does not fit changes nothing.
    """
    from evo.base.files import write_atomic
    from evo.compiler.check import require_valid
    from evo.dsl.canonical import content_hash, to_data, to_yaml
    from evo.dsl.document import parse
    from evo.dsl.patch import apply_data, patch_from_node
    from evo.dsl.yaml import read_file, write

    _require_order(patch, config)
    [loaded] = read_valid(config, overrides=overrides)
    node, text = read_file(patch)
    wanted = patch_from_node(node, text)
    try:
        data = apply_data(wanted.invert() if reverse else wanted, to_data(loaded.document))
    except DiagnosticError as error:
        raise DiagnosticError(error.diagnostics, text) from None
    document = require_valid(parse(write(data), f"{config} after {patch}"))
    if out is not None:
        from evo.dsl.relocate import relocated
        from evo.evolution.rundir import root_of  # loads numpy, which printing has no need of

        document = relocated(document, root_of(config), out.parent)
        write_atomic(out, to_yaml(document))
    if as_json:
        data = to_data(document)
        shown = None if out is None else str(out)
        view.print_json("apply", {"document": data, "content_hash": content_hash(document), "out": shown})
    elif out is None:
        view.say(to_yaml(document), end="")
    return 0


def _require_order(patch: Path, config: Path) -> None:
    """Raise DiagnosticError if the document stands where the patch belongs, and the patch where the document does."""
    from evo.dsl.yaml import STDIN, read_text

    if STDIN in (str(patch), str(config)) or is_patch(read_text(patch)) or not is_patch(read_text(config)):
        return
    help = f"the patch comes first: evo apply {shlex.quote(str(config))} {shlex.quote(str(patch))}"
    raise DiagnosticError([Diagnostic("EVO401", f"{config} is the patch, and {patch} is none", None, help)])
