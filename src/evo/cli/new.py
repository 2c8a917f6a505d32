"""`evo new NAME --from gpt2`: a document to begin with."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.base.shipped import shipped
from evo.cli import view
from evo.cli.documents import Json

SCHEMA = "organism.schema.json"
MODELINE = "# yaml-language-server: $schema="
HEAD_BYTES = 400
OURS = b'"title": "evo organism, '
"""What stands in the first bytes of every schema of documents that evo wrote."""


def command(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="What it is called; NAME.yaml is written.")] = None,
    source: Annotated[str, typer.Option("--from", help="The example to begin with; --list shows them.")] = "minimal",
    listed: Annotated[bool, typer.Option("--list", help="Show the examples.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Write a starter document.

    A copy of an example under a name of your own, and beside it `dsl_schemas`, with which an editor completes keys and
    shows what they mean.
    """
    from evo.base.files import write_atomic
    from evo.compiler.check import require_valid
    from evo.dsl.document import parse

    examples = _examples()
    if listed:
        _list(examples, as_json)
        return
    if name is None:
        raise typer.BadParameter("it needs a name", context, param_hint="NAME")
    file = _file_of(name)
    text = _renamed(_read(source, examples), file.stem)
    require_valid(parse(text, str(file)))
    schema = file.parent / "dsl_schemas" / SCHEMA
    if file.exists() and not force:
        raise DiagnosticError([Diagnostic("EVO601", f"{file} exists", None, "choose another name, or --force")])
    _require_ours(schema)
    write_atomic(file, text)
    write_atomic(schema, (shipped("dsl_schemas") / SCHEMA).read_text(encoding="utf-8"))
    if as_json:
        view.print_json("new", {"document": str(file), "schema": str(schema), "from": source})
    else:
        view.say(f"wrote {file} (from {source}) and {schema}; next: evo explain {file}, evo train {file}")


def _file_of(name: str) -> Path:
    """The file of a document that is called so, or by that path."""
    path = Path(name)
    if not path.name or "\0" in name:
        raise DiagnosticError([Diagnostic("EVO344", f"'{name}' is no name of a file", None, "such as `evo new mine`")])
    return path if path.suffix == ".yaml" else path.with_name(f"{path.name.removesuffix('.yml')}.yaml")


def _require_ours(schema: Path) -> None:
    """Raise DiagnosticError (EVO601) if a file that evo did not write lies where the schema goes."""
    if not schema.exists():
        return
    with schema.open("rb") as file:
        is_ours = OURS in file.read(HEAD_BYTES)
    if not is_ours:
        help = "the schema for editors goes there; choose another folder"
        raise DiagnosticError([Diagnostic("EVO601", f"{schema} exists, and evo did not write it", None, help)])


def _examples() -> dict[str, Path]:
    """The examples by name, those of folders as `zoo/llama`."""
    folder = shipped("examples")
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def _read(source: str, examples: dict[str, Path]) -> str:
    if source not in examples:
        help = f"{suggestion(source, examples)}`evo new --list` shows them"
        raise DiagnosticError([Diagnostic("EVO001", f"there is no example '{source}'", None, help)])
    return examples[source].read_text(encoding="utf-8")


def _renamed(text: str, name: str) -> str:
    """The text under another name, its first line telling editors of the schema beside it."""
    from evo.dsl.yaml.writer import scalar

    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(MODELINE)]
    body = "".join(lines)
    written = scalar(name)
    named = re.sub(r"^name: .*$", lambda _: f"name: {written}", body, count=1, flags=re.MULTILINE)
    if named == body and not re.search(r"^name:", body, re.MULTILINE):
        named = re.sub(r"^evo: .*$", lambda found: f"{found[0]}\nname: {written}", body, count=1, flags=re.MULTILINE)
    return f"{MODELINE}dsl_schemas/{SCHEMA}\n{named}"


def _list(examples: dict[str, Path], as_json: bool) -> None:
    told = {name: _about(path) for name, path in examples.items()}
    if as_json:
        view.print_json("new", {"examples": told})
        return
    room = view.width() - max(map(len, told)) - 2
    view.say(view.table([(name, _shortened(text, room)) for name, text in told.items()], left=2))


def _about(path: Path) -> str:
    """The first sentence of the comments that lead an example."""
    from evo.dsl.describe import first_sentence

    comments = [line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(line for line in comments if not line.startswith(MODELINE[2:]))
    return first_sentence(text)


def _shortened(text: str, columns: int) -> str:
    """As much of a text as the columns hold."""
    return textwrap.shorten(text, columns, placeholder=" ...")
