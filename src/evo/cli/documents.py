"""Documents as commands read them: files named one by one or found in folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.cli import view

if TYPE_CHECKING:
    from evo.dsl.document import Loaded

SUFFIXES = (".yaml", ".yml")

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Files, or folders that are searched for *.yaml and *.yml.")
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


def read_valid(*paths: Path) -> list[Loaded]:
    """Documents without errors; their warnings are shown. Raises DiagnosticError with every error of all of them."""
    from evo.compiler.check import check
    from evo.dsl.document import load

    loaded: list[Loaded] = []
    errors: list[Diagnostic] = []
    sources: dict[str, str] = {}
    for path in paths:
        try:
            loaded.append(load(path))
            diagnostics, sources[str(path)] = check(loaded[-1]), loaded[-1].text
        except DiagnosticError as error:
            diagnostics, sources[str(path)] = list(error.diagnostics), str(error.source)
        errors += [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
        view.show([d for d in diagnostics if d.severity == "warning"], sources[str(path)])
    if errors:
        raise DiagnosticError(errors, sources)
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
