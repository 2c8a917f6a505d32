"""A document put together: what it extends, then its own text, then what the command line sets, then definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.compose.define import Definitions
from evo.dsl.compose.merge import USE, merged
from evo.dsl.compose.origins import rooted
from evo.dsl.compose.overrides import SOURCE, overridden
from evo.dsl.compose.place import Place
from evo.dsl.spec import Spec
from evo.dsl.yaml import STDIN, Node, read_all, read_text

EXTENDS, DEFINE = "extends", "define"
MAX_CHAIN = 16


@dataclass
class Composed:
    """The whole document as nodes.

    written: the nodes of the file itself. sources: the text of every file by name. faults: told already.
    """

    node: Node
    written: Node
    sources: dict[str, str]
    faults: list[Diagnostic] = field(default_factory=list[Diagnostic])

    @property
    def is_composed(self) -> bool:
        """Whether the file is more than a document that stands alone."""
        return any(self.written.child(key) is not None for key in (EXTENDS, DEFINE))


def compose(text: str, file: str, cls: type[Spec], overrides: Sequence[str] = ()) -> Composed:
    """Read a document, what it extends and defines, and what is set from outside.

    cls: the class of a whole document.

    Raises:
        DiagnosticError: text that is not YAML, a file that cannot be read, or a composition that cannot be made.
    """
    node, duplicates = read_all(text, file)
    found = Composed(node, node, {file: text}, list(duplicates))
    if not found.is_composed and not overrides and USE not in text:
        return found
    if overrides:
        found.sources[SOURCE] = "\n".join(overrides)
    try:
        _compose(found, file, Place(cls), overrides)
    except DiagnosticError as error:
        sources = {**found.sources, **(error.source if isinstance(error.source, dict) else {})}
        raise DiagnosticError(error.diagnostics, sources) from None
    return found


def _compose(found: Composed, file: str, place: Place, overrides: Sequence[str]) -> None:
    whole = _extended(found.node, file, found, place, (_identity(file),))
    whole = overridden(whole, place, overrides)
    table = whole.child(DEFINE)
    assert isinstance(whole.value, dict)
    rest = Node({key: entry for key, entry in whole.value.items() if key != DEFINE}, whole.span)
    if table is not None and not isinstance(table.value, dict):
        help = "write define: {near: {kind: attention, heads: 8}}"
        raise DiagnosticError([Diagnostic("EVO202", "expected a mapping of names here", table.span, help)])
    definitions = Definitions(table.value if table is not None and isinstance(table.value, dict) else {})
    whole = definitions.expanded(rest, place)
    found.node = rooted(whole, file)
    found.faults += [
        Diagnostic("EVO117", f"nothing uses the definition '{name}'", entry.key, severity="warning")
        for name, entry in definitions.table.items()
        if name not in definitions.used and entry.key and entry.key.file == file
    ]


def _extended(node: Node, file: str, found: Composed, place: Place, chain: tuple[str, ...]) -> Node:
    """The node without `extends`, over the document that it names."""
    told = node.child(EXTENDS)
    if told is None:
        return node
    assert isinstance(node.value, dict)
    rest = Node({key: entry for key, entry in node.value.items() if key != EXTENDS}, node.span)
    if not isinstance(told.value, str):
        raise DiagnosticError([Diagnostic("EVO114", f"'{EXTENDS}' takes the path of a document", told.span)])
    path = _beside(file, told)
    if _identity(str(path)) in chain:
        raise DiagnosticError([Diagnostic("EVO114", "the document extends itself", told.span)])
    if len(chain) > MAX_CHAIN:
        raise DiagnosticError([Diagnostic("EVO114", f"a chain of more than {MAX_CHAIN} documents", told.span)])
    base = _read(path, told, found)
    whole = _extended(base, str(path), found, place, (*chain, _identity(str(path))))
    return merged(whole, rest, place)


def _read(path: Path, told: Node, found: Composed) -> Node:
    try:
        text = read_text(path)
    except DiagnosticError as error:
        reason = error.diagnostics[0].message
        raise DiagnosticError([Diagnostic("EVO114", f"it cannot be extended: {reason}", told.span)]) from None
    found.sources[str(path)] = text
    node, duplicates = read_all(text, str(path))
    found.faults += duplicates
    if not isinstance(node.value, dict):
        raise DiagnosticError([Diagnostic("EVO202", "expected a document here", node.span)])
    return node


def _beside(file: str, told: Node) -> Path:
    folder = Path() if file == STDIN else Path(file).parent
    try:
        path = folder / Path(str(told.value)).expanduser()
        path.resolve()
    except (RuntimeError, ValueError, OSError) as error:  # a home folder that nobody has, a NUL, links in a circle
        raise DiagnosticError([Diagnostic("EVO114", f"it cannot be extended: {error}", told.span)]) from None
    if str(path) == STDIN:
        raise DiagnosticError([Diagnostic("EVO114", "standard input cannot be extended", told.span)])
    return path


def _identity(file: str) -> str:
    return file if file == STDIN else str(Path(file).resolve())
