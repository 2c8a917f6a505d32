"""Documents as commands read them: files named one by one or found in folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.cli import view
from evo.dsl.document import Loaded

SUFFIXES = (".yaml", ".yml")

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Files, or folders that are searched for *.yaml and *.yml.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]


def found_in(paths: Sequence[Path]) -> list[Path]:
    """The files meant by some paths, each once, folders in alphabetical order. Raises DiagnosticError for an empty folder."""
    files: dict[Path, None] = {}
    for path in paths:
        files.update(dict.fromkeys(_files(path)))
    return list(files)


def read_valid(path: Path) -> Loaded:
    """A document without errors; its warnings are shown. Raises DiagnosticError with all of its errors."""
    from evo.compiler.check import check
    from evo.dsl.document import load

    loaded = load(path)
    diagnostics = check(loaded)
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    if errors:
        raise DiagnosticError(errors, loaded.text)
    view.show(diagnostics, loaded.text, sys.stderr)
    return loaded


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    inside = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not inside:
        message = f"no {' or '.join('*' + suffix for suffix in SUFFIXES)} file in this folder"
        raise DiagnosticError([Diagnostic("EVO001", message, Span(str(path), 1, 1))])
    yield from inside
