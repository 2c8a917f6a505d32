"""`evo schema`: what is generated from the spec classes, for editors and for readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.cli import view
from evo.cli.documents import Json

PAGE = "language.md"


def command(
    out: Annotated[Path, typer.Option("--out", help="The folder to write into.")] = Path("dsl_schemas"),
    docs: Annotated[
        Path | None,
        typer.Option(help="Also write language.md, every section, kind and field, here; where one is in docs, always."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 where a file is stale.")] = False,
    as_json: Json = False,
) -> int:
    """Write the JSON Schemas of the language.

    One file for each kind of document. A YAML editor that reads them completes keys and shows what they mean.
    """
    from evo.base.files import write_atomic
    from evo.dsl.schema import SCHEMAS

    texts = {out / name: json.dumps(make(), indent=2, ensure_ascii=False) + "\n" for name, make in SCHEMAS.items()}
    if docs is None and Path("docs", PAGE).is_file():
        docs = Path("docs")
    if docs is not None:
        from evo.dsl.page import language_page

        texts[docs / PAGE] = language_page()
    stale = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if check and stale and not as_json:
        raise DiagnosticError([_stale(path, docs) for path in stale])
    if not check:
        for path in stale:
            write_atomic(path, texts[path])
    if as_json:
        view.print_json("schema", {"stale": [str(path) for path in stale], "written": not check})
    elif not check:
        for path in texts:
            view.say(f"{'wrote' if path in stale else 'unchanged'} {path}")
    return 1 if check and stale else 0


def _stale(path: Path, docs: Path | None) -> Diagnostic:
    help = "run `evo schema`" if docs is None else f"run `evo schema --docs {docs}`"
    return Diagnostic("EVO111", "this file is not what the language says", Span(str(path), 1, 1), help)
