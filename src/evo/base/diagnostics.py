"""What a user got wrong, where, and how to mend it.

A `Diagnostic` is data; `render` prints it as a good compiler would; `DiagnosticError` carries all of a file's at once.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
Role = Literal["place", "error", "warning", "caret", "help"]
Paint = Callable[[Role, str], str]
"""Turns a part of a rendered diagnostic into what is printed; a terminal's adds colour."""

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
"""What PyYAML counts as the end of a line; `str.splitlines` knows more and would show the wrong one."""
_MAX_SHOWN = 160
_HELP = "   help: "


@dataclass(frozen=True)
class Span:
    """A stretch of one line of a text file; line and column count from 1."""

    file: str
    line: int
    column: int
    length: int = 1


@dataclass(frozen=True)
class Diagnostic:
    """One fault: a code of `evo.base.codes`, what was found and expected, where, and one line of help."""

    code: str
    message: str
    span: Span | None = None
    help: str | None = None
    severity: Severity = "error"

    def to_data(self) -> dict[str, Any]:
        """The diagnostic as plain data, for `--json`."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "help": self.help,
            "where": None if self.span is None else asdict(self.span),
        }


class DiagnosticError(Exception):
    """Raised once, with every diagnostic that was collected, and the text they are about (by file, if of several)."""

    def __init__(self, diagnostics: Iterable[Diagnostic], source: str | Mapping[str, str] = "") -> None:
        self.diagnostics = tuple(diagnostics)
        self.source = source
        super().__init__("\n".join(f"{d.code} {d.message}" for d in self.diagnostics))

    def __reduce__(self) -> tuple[Any, ...]:
        """An exception is unpickled from its text unless it says otherwise; this one crosses processes whole."""
        return type(self), (self.diagnostics, self.source)

    def source_of(self, diagnostic: Diagnostic) -> str:
        """The text that a diagnostic is about."""
        return source_of(diagnostic, self.source)


def source_of(diagnostic: Diagnostic, source: str | Mapping[str, str]) -> str:
    """The text that a diagnostic is about, of one text or of several by file."""
    if isinstance(source, str):
        return source
    return source.get(diagnostic.span.file, "") if diagnostic.span else ""


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Each diagnostic once, in the order of the files."""
    return sorted(
        dict.fromkeys(diagnostics), key=lambda d: (d.span.file, d.span.line, d.span.column) if d.span else ("", 0, 0)
    )


def plain(role: Role, text: str) -> str:
    """The paint of pipes and files: none."""
    del role
    return text


def render(diagnostic: Diagnostic, source: str = "", paint: Paint = plain, columns: int | None = None) -> str:
    """The diagnostic as text: `file:line:col: CODE message`, two lines of source with a caret, and the help.

    columns: what the help is wrapped at; None: it stays on one line, as programs that read it want it.
    """
    is_warning = diagnostic.severity == "warning"
    code = f"{diagnostic.code} warning:" if is_warning else diagnostic.code
    head = f"{paint(diagnostic.severity, code)} {printable(diagnostic.message)}"
    lines = [head]
    if span := diagnostic.span:
        place = paint("place", f"{printable(span.file)}:{span.line}:{span.column}:")
        lines = [f"{place} {head}", *_excerpt(span, source, paint)]
    if diagnostic.help:
        help = _wrapped(printable(diagnostic.help), columns, len(_HELP))
        lines.append(_HELP.replace("help:", paint("help", "help:")) + help)
    return "\n".join(lines)


def _wrapped(text: str, columns: int | None, indent: int) -> str:
    """Text on as many lines as it takes behind an indent, the first of which stands already; words stay whole."""
    if columns is None:
        return text
    margin = " " * indent
    lines = textwrap.wrap(text, columns - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{margin}".join(lines)


def printable(text: str) -> str:
    """The text on one line, control characters escaped, so that no document can drive the reader's terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` if a known word is close, otherwise nothing."""
    close = difflib.get_close_matches(word[:100], list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""


def _excerpt(span: Span, source: str, paint: Paint) -> list[str]:
    lines = _lines_until(source, span.line)
    if len(lines) < span.line:
        return []
    width = max(5, len(str(span.line)) + 3)
    shown = range(max(1, span.line - 1), span.line + 1)
    text = [f"{number:>{width}} | {_line(lines[number - 1])}".rstrip() for number in shown]
    if span.column > _MAX_SHOWN:
        return text
    line = lines[span.line - 1]
    marked = line[span.column - 1 : min(span.column - 1 + span.length, _MAX_SHOWN)]
    caret = "^" + "~" * (_columns(marked) - 1)
    return [*text, f"{'':>{width}} | {' ' * _columns(line[: span.column - 1])}{paint('caret', caret)}"]


def _lines_until(source: str, last: int) -> list[str]:
    """The lines of a text up to one of them, without looking further: a file may be long and its faults many."""
    lines: list[str] = []
    start = 0
    for match in _LINE_BREAK.finditer(source):
        lines.append(source[start : match.start()])
        start = match.end()
        if len(lines) == last:
            return lines
    return [*lines, source[start:]] if source else []


def _line(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line[:_MAX_SHOWN])


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(_column_width(c) for c in text)


def _column_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
