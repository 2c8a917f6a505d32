"""What a user got wrong, where, and how to mend it.

A `Diagnostic` is data; `render` prints it as a good compiler would; `DiagnosticError` carries all of a file's at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


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
        where = None if self.span is None else vars(self.span)
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "help": self.help,
            "where": where,
        }


class DiagnosticError(Exception):
    """Raised once, with every diagnostic that was collected."""

    def __init__(self, diagnostics: Iterable[Diagnostic], source: str = "") -> None:
        self.diagnostics = tuple(diagnostics)
        self.source = source
        super().__init__("\n".join(f"{d.code} {d.message}" for d in self.diagnostics))


def render(diagnostic: Diagnostic, source: str = "") -> str:
    """The diagnostic as text: `file:line:col: CODE message`, two lines of source with a caret, and the help."""
    label = diagnostic.code if diagnostic.severity == "error" else f"{diagnostic.code} {diagnostic.severity}:"
    span = diagnostic.span
    if span is None:
        lines = [f"{label} {diagnostic.message}"]
    else:
        lines = [f"{span.file}:{span.line}:{span.column}: {label} {diagnostic.message}", *_excerpt(span, source)]
    if diagnostic.help:
        lines.append(f"   help: {diagnostic.help}")
    return "\n".join(lines)


def _excerpt(span: Span, source: str) -> list[str]:
    lines = source.splitlines()
    if not 1 <= span.line <= len(lines):
        return []
    width = max(5, len(str(span.line)) + 3)
    shown = range(max(1, span.line - 1), span.line + 1)
    text = [f"{number:>{width}} | {_printable(lines[number - 1])}" for number in shown]
    length = max(1, min(span.length, len(lines[span.line - 1]) - span.column + 1, 100))
    caret = " " * (span.column - 1) + "^" + "~" * (length - 1)
    return [*text, f"{'':>{width}} | {caret}"] if span.column <= 160 else text


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line[:200])


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` if a known word is close, otherwise nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'? " if close else ""
