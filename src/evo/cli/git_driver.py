"""`evo git-driver`: documents in git, compared and merged by what they mean."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError, printable
from evo.cli import view

if TYPE_CHECKING:
    from evo.dsl.document import Document, Loaded

command = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Compare and merge documents in git by what they mean.",
)
SETTINGS = {
    "diff.evo.command": "evo git-driver diff",
    "merge.evo.name": "evo documents, merged by what they mean",
    "merge.evo.driver": "evo git-driver merge %O %A %B %P",
}


@command.command()
def install(
    pattern: Annotated[list[str] | None, typer.Argument(help="Which files hold documents; *.yaml if left out.")] = None,
) -> None:
    """Let git in this repository use evo for documents.

    Writes .gitattributes and the repository's own configuration. Files that are no documents are compared and merged as
    text, as before. `git config --unset` and .gitattributes undo it.
    """
    found = _git("rev-parse", "--show-toplevel")
    if found.returncode:
        raise DiagnosticError([Diagnostic("EVO004", "this folder is in no git repository", None, "run it inside one")])
    for key, value in SETTINGS.items():
        _git("config", key, value)
    attributes = Path(found.stdout.strip()) / ".gitattributes"
    before = attributes.read_text(encoding="utf-8") if attributes.exists() else ""
    lines = [f"{wanted} diff=evo merge=evo" for wanted in pattern or ["*.yaml"]]
    new = [line for line in lines if line not in before.splitlines()]
    if new:
        gap = "" if not before or before.endswith("\n") else "\n"
        attributes.write_text(before + gap + "".join(f"{line}\n" for line in new), encoding="utf-8")
    view.say(f"git compares and merges {', '.join(pattern or ['*.yaml'])} by `evo git-driver` in this repository")


@command.command(context_settings={"ignore_unknown_options": True})
def diff(
    path: Annotated[str, typer.Argument(help="What git calls the file.")],
    old: Annotated[Path, typer.Argument(help="What it was.")],
    old_hex: str,
    old_mode: str,
    new: Annotated[Path, typer.Argument(help="What it is.")],
    new_hex: str,
    new_mode: str,
) -> None:
    """Show a change as git asks for it; called by git."""
    del old_hex, old_mode, new_hex, new_mode
    from evo.dsl.patch import diff as between

    view.say_painted(view.bold(f"evo diff {path}"))
    try:
        before, after = _document(old), _document(new)
    except DiagnosticError:
        shown = _git("diff", "--no-index", "--no-ext-diff", str(old), str(new))
        view.say(shown.stdout, end="")
        return
    view.say_painted(view.coloured_patch(str(between(before, after))))


@command.command()
def merge(base: Path, ours: Path, theirs: Path, path: str) -> int:
    """Merge two changes as git asks for it; called by git.

    Writes the result in place of OURS. Where both changed a value, that is a conflict: marked in the file, told with
    both values, exit code 1.
    """
    from evo.base.files import write_atomic
    from evo.dsl.format import formatted
    from evo.dsl.three_way import merge as merged

    try:
        mine = _loaded(ours)
        found = merged(_document(base), mine.document, _document(theirs))
    except DiagnosticError:
        return _git("merge-file", str(ours), str(base), str(theirs)).returncode and 1
    head = formatted(mine).removesuffix(_canonical(mine))
    text = head + found.text()
    write_atomic(ours, text)
    for conflict in found.conflicts:
        where = ".".join(map(str, conflict.path))
        message = f"both change {where}: {_shown(conflict.ours)} here, {_shown(conflict.theirs)} there"
        span = mine.node.at(conflict.path)
        help = f"choose one in {printable(path)}"
        view.show([Diagnostic("EVO402", message, span, help)], mine.sources)
    return 1 if found.conflicts or not _is_valid(text, path) else 0


def _is_valid(text: str, path: str) -> bool:
    """Whether a merge without conflicts is a valid document; what is wrong is shown."""
    from evo.compiler.check import require_valid
    from evo.dsl.document import parse

    try:
        require_valid(parse(text, path))
    except DiagnosticError as error:
        view.show(error.diagnostics, text)
        return False
    return True


def _loaded(path: Path) -> Loaded:
    """A document that stands alone. Raises DiagnosticError for one that extends or defines something, or is none."""
    from evo.dsl.document import load

    found = load(path)
    if found.written is not None:
        raise DiagnosticError([Diagnostic("EVO402", f"{path} is put together of parts, which are merged as text")])
    return found


def _document(path: Path) -> Document:
    return _loaded(path).document


def _canonical(loaded: Loaded) -> str:
    from evo.dsl.canonical import to_yaml

    return to_yaml(loaded.document)


def _shown(value: Any) -> str:
    from evo.dsl.patch import ABSENT
    from evo.dsl.yaml.writer import flow

    return "nothing" if value is ABSENT else flow(value)


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
