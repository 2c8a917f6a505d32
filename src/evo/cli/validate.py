"""`evo validate PATH...`: every fault of every file at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import run_of
from evo.cli import view
from evo.cli.documents import Json, Overrides, Paths, found_in, is_patch

if TYPE_CHECKING:
    from evo.compiler.examine import Examined


def command(
    paths: Paths,
    overrides: Overrides = None,
    shape: Annotated[
        Literal["text", "github"], typer.Option("--format", help="github: annotations of a workflow.")
    ] = "text",
    as_json: Json = False,
) -> int:
    """Check documents and show every fault.

    Syntax, schema and meaning of every file are checked, and that the texts it names are there; errors make the exit
    code 1, warnings do not. Patches are recognised by their key `evo_patch`, and what can be told of them without
    their document is checked.
    """
    from evo.compiler.examine import examine_file

    files = [_as_patch(examine_file(path, overrides or (), _root(path))) for path in found_in(paths)]
    errors, warnings = sum(len(file.errors) for file in files), sum(len(file.warnings) for file in files)
    if as_json:
        view.print_json("validate", {"files": [_to_data(f) for f in files], "errors": errors, "warnings": warnings})
        return 1 if errors else 0
    for file in files:
        if shape == "github":
            view.say("\n".join(map(_annotation, file.diagnostics)), end="\n" if file.diagnostics else "")
        else:
            view.show(file.diagnostics, file.sources)
    counted = f"{view.plural(errors, 'error')}, {view.plural(warnings, 'warning')}"
    summary = f"{view.plural(len(files), 'file')}: {counted if errors or warnings else 'valid'}"
    view.say(summary, file=sys.stderr if errors else sys.stdout)
    return 1 if errors else 0


def _root(path: Path) -> Path | None:
    """The folder that files which a document names start from; None for a run's variant, whose texts the run has."""
    file = path.resolve()
    return file.parent if run_of(file) is None else None


def _annotation(fault: Diagnostic) -> str:
    """A fault as a command of GitHub's workflows, which shows it beside the line."""
    text = fault.message if fault.help is None else f"{fault.message}; {fault.help}"
    where = [f"title={fault.code}"]
    if fault.span is not None:
        where = [f"file={_escaped(fault.span.file)}", f"line={fault.span.line}", f"col={fault.span.column}", *where]
    return f"::{fault.severity} {','.join(where)}::{text.replace('%', '%25')}"


def _escaped(value: str) -> str:
    """A property of an annotation, whose signs shall not end it."""
    for sign, code in (("%", "%25"), (":", "%3A"), (",", "%2C")):
        value = value.replace(sign, code)
    return value


def _as_patch(file: Examined) -> Examined:
    """The file judged as a patch, if it is one."""
    from evo.compiler.examine import Examined
    from evo.dsl.patch import patch_from_node
    from evo.dsl.yaml import read

    if file.loaded or not is_patch(file.text):
        return file
    try:
        patch_from_node(read(file.text, str(file.path)), file.text)
    except DiagnosticError as error:
        return Examined(file.path, file.text, error.diagnostics, None, {str(file.path): file.text})
    return Examined(file.path, file.text, ())


def _to_data(file: Examined) -> dict[str, Any]:
    from evo.dsl.canonical import content_hash

    return {
        "file": str(file.path),
        "valid": not file.errors,
        "content_hash": content_hash(file.loaded.document) if file.loaded else None,
        "diagnostics": [diagnostic.to_data() for diagnostic in file.diagnostics],
    }
