"""How commands print: diagnostics, tables and JSON; plain text for pipes, colour for terminals."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import IO, Any

from evo.base.diagnostics import Diagnostic, DiagnosticError, Paint, Role, plain, printable, render, source_of

FORMAT = 1
"""The version of every JSON output; it grows when a key changes its meaning or goes."""
MAX_SHOWN = 50
"""Faults of one file that are printed as text; `--json` has them all."""
_ESCAPES = re.compile(r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(?P<half>\\ud[89a-f][0-9a-f]{2})")
"""In JSON: an escaped backslash, a character beyond 16 bits, half of one."""
_COLOURS: dict[Role, str] = {"place": "1", "error": "1;31", "warning": "1;33", "caret": "1;32", "help": "36"}


def escape_unspellable() -> None:
    """Let what a terminal's encoding cannot spell be escaped instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def say(text: object = "", *, file: IO[str] | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print text, on stdout unless told otherwise, its control characters escaped: a name or a path may hold any."""
    print(safe(str(text)), file=file, end=end, flush=flush)


def print_json(command: str, data: dict[str, Any]) -> None:
    """One JSON object on stdout: `command`, `format`, and the command's own keys.

    Half characters, as of names that are not UTF-8, become U+FFFD: most readers of JSON refuse them.
    """
    text = json.dumps({"command": command, "format": FORMAT, **data}, indent=2)
    print(_ESCAPES.sub(lambda found: "\\ufffd" if found["half"] else found[0], text))


def show(
    diagnostics: Sequence[Diagnostic], source: str | Mapping[str, str] = "", stream: IO[str] | None = None
) -> None:
    """Diagnostics of one document, as text on stderr unless told otherwise. source: its text, or those of its files."""
    out = stream or sys.stderr
    paint = paint_for(out)
    for diagnostic in diagnostics[:MAX_SHOWN]:
        print(render(diagnostic, source_of(diagnostic, source), paint, _columns(out)), file=out)
    if len(diagnostics) > MAX_SHOWN:
        print(f"... and {len(diagnostics) - MAX_SHOWN:,} more (--json shows all)", file=out)


def show_error(command: str, error: DiagnosticError, as_json: bool) -> None:
    """What stopped a command: text on stderr, or `{"error": [...]}` on stdout for programs."""
    if as_json:
        print_json(command, {"error": [diagnostic.to_data() for diagnostic in error.diagnostics]})
    else:
        for source, diagnostics in groupby(error.diagnostics, error.source_of):
            show(list(diagnostics), source)


def width() -> int:
    """Columns that prose may take: those of the terminal, 80 in a pipe, and no more than are easy to read."""
    return _columns(sys.stdout) or 80


def _columns(stream: IO[str]) -> int | None:
    """Those of the terminal that a stream leads to, if it does."""
    return min(120, shutil.get_terminal_size((80, 24)).columns) if stream.isatty() else None


def say_wrapped(text: str) -> None:
    """Print a sentence on as many lines as it takes; paths and numbers stay whole."""
    say(textwrap.fill(text, width(), break_long_words=False, break_on_hyphens=False))


def safe(text: str) -> str:
    """Text with its control characters escaped, line by line, for `say_painted`."""
    return "\n".join(map(printable, text.split("\n")))


def say_painted(text: str) -> None:
    """Print text whose colours are to reach the terminal; every part that a document wrote has passed `safe`."""
    print(text)


def bold(text: str) -> str:
    """Text that stands out on a terminal."""
    return paint_for(sys.stdout)("place", safe(text))


def coloured_patch(patch: str) -> str:
    """A patch as people read it, on a terminal with what comes in green and what leaves in red."""
    paint = paint_for(sys.stdout)
    signs: dict[str, Role] = {"+": "caret", "-": "error", "~": "warning"}
    lines = [paint(signs[line[0]], line) if line[:1] in signs else line for line in safe(patch).split("\n")]
    return "\n".join(lines) if patch else "no difference"


def paint_for(stream: IO[str]) -> Paint:
    """Colour for a terminal, none for a pipe or where NO_COLOR is set."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return plain
    return _colour


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text in columns: the first `left` columns flush left, the others flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def count(number: float) -> str:
    """A count as people read it: 950, 12.3 k, 4.56 M."""
    for unit, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.4g}"


def plural(number: int, noun: str) -> str:
    """1 file, 2 files."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _colour(role: Role, text: str) -> str:
    return f"\x1b[{_COLOURS[role]}m{text}\x1b[0m"
