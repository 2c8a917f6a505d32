"""Documents as commands read them: files named one by one or found in folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.cli import view

if TYPE_CHECKING:
    from evo.dsl.document import Document, Loaded

SUFFIXES = (".yaml", ".yml")

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH", help="Files, folders that are searched for *.yaml and *.yml, or - for standard input."
    ),
]
Kernels = Annotated[
    str,
    typer.Option(help="auto; reference: plain torch in every layer; triton: our kernel in every mixer."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Put a value into the document, as if it stood there: train.steps=200. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def found_in(paths: Sequence[Path]) -> list[Path]:
    """The files meant by some paths, each once, folders in alphabetical order.

    Raises DiagnosticError for a folder without any.
    """
    files: dict[Path, None] = {}
    for path in paths:
        files.update(dict.fromkeys(_files(path)))
    return list(files)


def is_patch(text: str) -> bool:
    """Whether a text is meant to be a patch: it is YAML and has the key `evo_patch`."""
    from evo.dsl.yaml import read_all

    if "evo_patch" not in text:
        return False
    try:
        return read_all(text)[0].child("evo_patch") is not None
    except DiagnosticError:
        return False


def read_valid(*paths: Path, overrides: Sequence[str] | None = ()) -> list[Loaded]:
    """Documents without errors, each with the overrides; their warnings are shown.

    Raises DiagnosticError with every error of all of them.
    """
    from evo.compiler.examine import examine_file

    examined = [examine_file(path, overrides or ()) for path in paths]
    for file in examined:
        view.show(file.warnings, file.sources)
    errors = [error for file in examined for error in file.errors]
    if errors:
        raise DiagnosticError(errors, {name: text for file in examined for name, text in file.sources.items()})
    return [file.loaded for file in examined if file.loaded]


def require_distinct(paths: Sequence[Path], argument: str) -> None:
    """Raise typer.BadParameter where one file is named twice: it would count once. argument: where they are named."""
    for path, often in Counter(path.resolve() for path in paths).items():
        if often > 1:
            raise typer.BadParameter(f"{path.name} is named twice", param_hint=argument)


def overridden(document: Document, section: str, options: Mapping[str, Any]) -> Document:
    """The document with options in place of the fields of that name in one of its sections; None leaves the field.

    Raises DiagnosticError with every option outside its field's limits, or that makes no sense in this document.
    """
    from evo.compiler.check import require_valid
    from evo.dsl.patch import apply, rewrite

    faults: list[Diagnostic] = []
    for name, value in options.items():
        try:
            if value is not None:
                document = require_valid(apply(rewrite(document, {(section, name): value}), document))
        except DiagnosticError as error:
            option = f"--{name.replace('_', '-')}"
            help = f"{option} stands for {section}.{name} of the document, and has its limits"
            faults += [
                replace(fault, help=f"{fault.help}; {help}" if fault.help else help) for fault in error.diagnostics
            ]
    if faults:
        raise DiagnosticError(faults)
    return document


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not inside:
        message = f"no {' or '.join('*' + suffix for suffix in SUFFIXES)} file in this folder"
        raise DiagnosticError([Diagnostic("EVO001", message, Span(str(path), 1, 1))])
    yield from inside
