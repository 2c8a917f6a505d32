"""From text to nodes. Bounded in size, depth and alias expansion; every fault is a positioned diagnostic."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import yaml

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span
from evo.dsl.yaml.nodes import Entry, Node
from evo.dsl.yaml.scalars import resolve_scalar
from evo.dsl.yaml.syntax import explained

STDIN = "-"
MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 20_000
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_file(path: Path) -> tuple[Node, str]:
    """The document in a file, with its text. Raises DiagnosticError for anything that is not one YAML document."""
    text = read_text(path)
    return read(text, str(path)), text


def read_text(path: Path) -> str:
    """The text of a file, or for `-` of standard input.

    Raises DiagnosticError where there is none, too much of it, or something else than UTF-8.
    """
    name = str(path)
    try:
        with sys.stdin.buffer if name == STDIN else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _fault("EVO001", f"no such file: {name}", Span(name, 1, 1)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _fault("EVO001", f"cannot read {name}: {reason}", Span(name, 1, 1)) from None
    if len(data) > MAX_BYTES:
        raise _fault("EVO002", f"the file is larger than {MAX_BYTES:,} bytes", Span(name, 1, 1))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _fault("EVO003", f"not UTF-8 text (byte 0x{data[error.start]:02x})", Span(name, line, 1)) from None


def read(text: str, file: str = "<text>") -> Node:
    """The one document in `text`. Raises DiagnosticError for anything else."""
    node, duplicates = read_all(text, file)
    if duplicates:
        raise DiagnosticError(duplicates, text)
    return node


def read_all(text: str, file: str = "<text>") -> tuple[Node, list[Diagnostic]]:
    """The one document in `text` and its duplicate keys, of which the first counts: reading can go on despite them."""
    reader = _Reader(text, file)
    return reader.document(), reader.duplicates


def _fault(code: str, message: str, span: Span, source: str = "", help: str | None = None) -> DiagnosticError:
    return DiagnosticError([Diagnostic(code, message, span, help)], source)


def _events(text: str) -> Iterator[Any]:
    parse: Callable[..., Iterator[Any]] = cast(Any, yaml).parse
    return iter(parse(text, Loader=yaml.SafeLoader))


class _Reader:
    """Builds nodes from PyYAML's event stream, which never recurses, so depth and size stay ours to bound."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.anchors: dict[str, tuple[Node, int]] = {}
        self.open_anchors: set[str] = set()
        self.duplicates: list[Diagnostic] = []
        self.events: Iterator[Any] = iter(())

    def document(self) -> Node:
        try:
            self.events = _events(self.text)
            self._expect_content()
            node, _ = self._node(next(self.events), 0)
            self._expect_end()
        except yaml.YAMLError as error:
            raise self._syntax(error) from None
        return node

    def _expect_content(self) -> None:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            help = "`evo new NAME` writes one to begin with"
            raise self._fault("EVO107", "the file holds no document", Span(self.file, 1, 1), help)

    def _expect_end(self) -> None:
        next(self.events)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._fault("EVO105", "a second document begins here", self._span(event), "one file, one document")

    def _node(self, event: Any, depth: int) -> tuple[Node, int]:
        """The node that starts at `event`, and how many nodes it expands to."""
        if depth > MAX_DEPTH:
            raise self._fault("EVO104", f"nested deeper than {MAX_DEPTH} levels", self._span(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._refuse_tag(event)
        if event.anchor:
            self.open_anchors.add(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            node, size = self._scalar(event), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            node, size = self._sequence(event, depth)
        else:
            node, size = self._mapping(event, depth)
        if size > MAX_NODES:
            raise self._fault("EVO103", f"the document expands to more than {MAX_NODES:,} values", self._span(event))
        if event.anchor:
            self.open_anchors.discard(event.anchor)
            self.anchors[event.anchor] = (node, size)
        return node, size

    def _scalar(self, event: yaml.ScalarEvent) -> Node:
        text = self._text(event)
        is_plain = event.tag is None and event.style is None  # `!` asks for text
        return Node(resolve_scalar(text) if is_plain else text, self._span(event))

    def _text(self, event: yaml.ScalarEvent) -> str:
        if _SURROGATE.search(event.value):
            raise self._fault("EVO109", "half of a surrogate pair stands in the text", self._span(event))
        return event.value

    def _refuse_tag(self, event: Any) -> None:
        if event.tag not in (None, "!"):
            raise self._fault("EVO106", f"tags are not part of the language: {event.tag}", self._span(event))

    def _alias(self, event: Any) -> tuple[Node, int]:
        if event.anchor in self.open_anchors:
            raise self._fault("EVO103", f"'*{event.anchor}' contains itself", self._span(event))
        if event.anchor not in self.anchors:
            raise self._fault("EVO100", f"no anchor '&{event.anchor}' before this", self._span(event))
        return self.anchors[event.anchor]

    def _sequence(self, start: Any, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node, count = self._node(event, depth + 1)
            items.append(node)
            size = self._grown(size, count, event)
        return Node(tuple(items), self._span(start)), size

    def _mapping(self, start: Any, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        size = 1
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key, place = self._key(event), self._span(event)
            node, count = self._node(next(self.events), depth + 1)
            size = self._grown(size, count, event)
            if key in entries:
                first = entries[key].key
                help = f"the first is on line {first.line}" if first else None
                self.duplicates.append(Diagnostic("EVO101", f"duplicate key '{key}'", place, help))
            else:
                entries[key] = Entry(place, node)
        return Node(entries, self._span(start)), size

    def _grown(self, size: int, count: int, event: Any) -> int:
        if size + count > MAX_NODES:
            raise self._fault("EVO103", f"the document expands to more than {MAX_NODES:,} values", self._span(event))
        return size + count

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._fault("EVO108", "a key must be plain text", self._span(event))
        self._refuse_tag(event)
        text = self._text(event)
        if event.anchor:
            self.anchors[event.anchor] = (Node(text, self._span(event)), 1)
        return text

    def _span(self, event: Any) -> Span:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else 1
        return Span(self.file, start.line + 1, start.column + 1, max(1, length))

    def _syntax(self, error: yaml.YAMLError) -> DiagnosticError:
        found = explained(error, self.text)
        if found is None:
            return self._control_character(getattr(error, "position", 0))
        span = Span(self.file, found.line + 1, found.column + 1)
        if "'\\t'" in str(error):
            return self._fault("EVO102", "a tab cannot indent YAML", span, "use spaces")
        return self._fault("EVO100", found.message, span, found.help)

    def _control_character(self, position: int) -> DiagnosticError:
        before = self.text[:position]
        line, column = before.count("\n") + 1, position - before.rfind("\n")
        character = ord(self.text[position])
        message = f"the character U+{character:04X} cannot stand in YAML"
        return self._fault("EVO109", message, Span(self.file, line, column), "remove it, or write it escaped in quotes")

    def _fault(self, code: str, message: str, span: Span, help: str | None = None) -> DiagnosticError:
        return _fault(code, message, span, self.text, help)
