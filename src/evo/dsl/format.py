"""What `evo fmt` writes: the leading comments of a file and its document in canonical form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from evo.base.diagnostics import Diagnostic, Span
from evo.dsl.canonical import to_yaml
from evo.dsl.compose.place import Place
from evo.dsl.compose.written import ordered
from evo.dsl.document import Document, Loaded
from evo.dsl.yaml import write

_HEADER = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*")


def formatted(loaded: Loaded) -> str:
    """The canonical text under the comments that led the file."""
    header = _header(loaded.text).replace("\r", "")
    comments = header.strip("\n")
    gap = "\n\n" if header.endswith("\n\n") else "\n"
    return (comments + gap if comments else "") + _body(loaded)


def _body(loaded: Loaded) -> str:
    """The canonical text without comments; of a document that extends or defines something, its own text in order."""
    if loaded.written is None:
        return to_yaml(loaded.document)
    return write(ordered(loaded.written, Place(Document)))


def is_formatted(loaded: Loaded) -> bool:
    """Whether the file is what `formatted` writes, apart from the comments inside the document."""
    if loaded.text == formatted(loaded):
        return True
    text = loaded.text
    inner = list(_inner_comments(text))
    if not inner or "\r" in text:
        return False
    kept = text
    for start, end in reversed(inner):
        kept = kept[:start] + kept[end:]
    lines = [line.rstrip() for line in kept[len(_header(text)) :].split("\n")]
    return [line for line in lines if line] == _body(loaded).splitlines()


def lost_comments(loaded: Loaded) -> Diagnostic | None:
    """The first comment that the canonical form has no place for, as a diagnostic."""
    for start, end in _inner_comments(loaded.text):
        before = loaded.text[:start]
        span = Span(loaded.file, before.count("\n") + 1, start - before.rfind("\n"), end - start)
        help = "move it to the top of the file, or use --force to drop it"
        return Diagnostic("EVO110", "the canonical form cannot keep a comment inside the document", span, help)
    return None


def _header(text: str) -> str:
    found = _HEADER.match(text)
    return found[0] if found else ""


def _inner_comments(text: str) -> Iterator[tuple[int, int]]:
    """Where the comments below the leading ones stand: what lies between two tokens is space or comment."""
    end = len(_header(text))
    for token in cast(Any, yaml).scan(text, Loader=yaml.SafeLoader):
        start = token.start_mark.index
        yield from ((end + m.start(), end + m.end()) for m in re.finditer(r"#[^\r\n]*", text[end:start]))
        end = max(end, token.end_mark.index)
