"""`evo fmt PATH...`: documents in their canonical form."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from evo.base.diagnostics import DiagnosticError
from evo.cli import guard, view
from evo.cli.documents import Json, Paths, found_in, is_patch


def command(
    paths: Paths,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 where a file would change.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Drop comments that the canonical form cannot keep.")] = False,
    as_json: Json = False,
) -> int:
    """Rewrite documents in their canonical form.

    Defaults and unused pseudopods are left out, keys are put in order, numbers are spelled one way. Comments at the top
    of a file stay; a file with comments elsewhere is left alone unless it is in form already, or --force drops them.
    Patches are left as they are. `-` is standard input, whose canonical form goes to standard output.
    """
    changed: list[str] = []
    errors: list[DiagnosticError] = []
    for path in found_in(paths):
        try:
            if _format(path, check, force):
                changed.append(str(path))
        except DiagnosticError as error:
            errors.append(error)
        except OSError as error:  # one that cannot be written keeps no other from its form
            errors.append(DiagnosticError([guard.os_fault(error)]))
    if as_json:
        diagnostics = [diagnostic.to_data() for error in errors for diagnostic in error.diagnostics]
        view.print_json("fmt", {"changed": changed, "written": not check, "diagnostics": diagnostics})
    else:
        for error in errors:
            view.show_error("fmt", error, as_json=False)
        for name in changed:
            view.say(f"{'would rewrite' if check else 'rewrote'} {name}")
    return 1 if errors or (check and changed) else 0


def _format(path: Path, check: bool, force: bool) -> bool:
    """Whether the file was, or would be, rewritten."""
    from evo.base.files import write_atomic
    from evo.compiler.check import check as faults
    from evo.dsl.document import parse
    from evo.dsl.format import formatted, is_formatted, lost_comments
    from evo.dsl.yaml import STDIN, read_text

    text = read_text(path)
    is_piped = str(path) == STDIN
    if is_patch(text):
        return _given(text, is_piped and not check)
    loaded = parse(text, str(path))
    view.show([fault for fault in faults(loaded) if fault.code == "EVO321"], loaded.sources, sys.stderr)
    if is_formatted(loaded):
        return _given(text, is_piped and not check)
    lost = None if force else lost_comments(loaded)
    if lost:
        raise DiagnosticError([lost], loaded.sources)
    if is_piped and not check:
        return _given(formatted(loaded), True)
    if not check:
        write_atomic(path, formatted(loaded))
    return True


def _given(text: str, is_wanted: bool) -> bool:
    """Print a document of standard input, if that is wanted; no file was rewritten."""
    if is_wanted:
        view.say(text, end="")
    return False
