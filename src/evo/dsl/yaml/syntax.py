"""What PyYAML says of broken text, in words for people: what was meant to stand there, and how to mend it."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

_NO_COLON = re.compile(r"\s*(?:- +)*([A-Za-z_][\w-]*)( +\S.*)?$")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_COMMENT = re.compile(r"\s*(#.*)?$")
_CLOSING = {"flow mapping": ("{", "}"), "flow sequence": ("[", "]")}


class Explained(NamedTuple):
    """A syntax error: message, line and column from 0, one line of help."""

    message: str
    line: int
    column: int
    help: str | None = None


def explained(error: yaml.YAMLError, text: str) -> Explained | None:
    """What is wrong with the text, and where; None where the error names no place."""
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return None
    problem: str = getattr(error, "problem", None) or "not YAML"
    context: str = getattr(error, "context", None) or ""
    lines = _BREAK.split(text)
    opened: Any = getattr(error, "context_mark", None)
    found = None
    if problem == "mapping values are not allowed here":
        found = (
            _without_colon(lines, _line_above(lines, mark.line))
            or _two_colons(lines, mark)
            or _between_levels(lines, mark.line, _indent(lines, mark.line))
        )
    elif problem == "could not find expected ':'" and opened is not None:
        found = _without_colon(lines, opened.line)
    elif "expected <block end>" in problem:
        found = _between_levels(lines, mark.line, mark.column)
    elif opened is not None:
        found = _never_closed(problem, context, opened)
    return found or Explained(f"{problem} ({context})" if context else problem, mark.line, mark.column)


def _line_above(lines: list[str], line: int) -> int:
    """The line before one that is neither empty nor a comment; the line itself if there is none."""
    return next((above for above in range(line - 1, -1, -1) if not _COMMENT.fullmatch(lines[above])), line)


def _without_colon(lines: list[str], line: int) -> Explained | None:
    match = _NO_COLON.fullmatch(lines[line].rstrip()) if line < len(lines) else None
    if match is None or ":" in lines[line]:
        return None
    key, rest = match.group(1), (match.group(2) or "").strip()
    help = f"is a colon missing? `{key}: {rest}`" if rest else f"is a colon missing? `{key}:`"
    return Explained(f"'{key}' stands without a colon where a key and its value belong", line, match.start(1), help)


def _two_colons(lines: list[str], mark: Any) -> Explained | None:
    row: int = mark.line
    line = lines[row] if row < len(lines) else ""
    if ": " not in line[: mark.column]:
        return None
    help = "one key a line; a text that holds a colon stands in quotes"
    return Explained("a second ':' on this line", mark.line, mark.column, help)


def _indent(lines: list[str], row: int) -> int:
    """The column in which a line begins."""
    return len(lines[row]) - len(lines[row].lstrip()) if row < len(lines) else 0


def _between_levels(lines: list[str], row: int, column: int) -> Explained | None:
    """A line that begins in no column in which a line above, whose block is open, begins."""
    line = lines[row] if row < len(lines) else ""
    if line[:column].strip():
        return None
    levels: list[int] = []
    for above in lines[:row]:
        if _COMMENT.fullmatch(above):
            continue
        starts = [match.start() for match in re.finditer(r"(?<![^\s])- +(?=\S)|\S.*$", above)]
        levels = [level for level in levels if level < starts[0]] + starts
    if column in levels or not levels:
        return None
    near = sorted(levels, key=lambda level: abs(level - column))[:2]
    known = " or ".join(str(level + 1) for level in sorted(near))
    help = f"lines that belong together begin in one column: here {known}"
    return Explained(f"this line begins in column {column + 1}, where no line above it does", row, column, help)


def _never_closed(problem: str, context: str, opened: Any) -> Explained | None:
    for name, (first, last) in _CLOSING.items():
        if context.endswith(f"parsing a {name}"):
            found = problem.partition(", but got ")[2]
            after = f" before {found}" if found and "<" not in found else ""
            help = f"close it with '{last}', or put a ',' between its entries"
            return Explained(f"this '{first}' is not closed{after}", opened.line, opened.column, help)
    return None
