"""`define`: values with a name, which `{use: NAME}` stands for anywhere in a document, with changes beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span, suggestion
from evo.dsl.compose.merge import USE, merged, names_of
from evo.dsl.compose.place import Place
from evo.dsl.yaml import MAX_DEPTH, MAX_NODES, Entry, Node


@dataclass
class Definitions:
    """The table `define` of a document, with the names that were used so far."""

    table: dict[str, Entry]
    used: set[str] = field(default_factory=set[str])
    size: int = 0

    def expanded(self, node: Node, place: Place, visiting: tuple[str, ...] = (), depth: int = 0) -> Node:
        """The node with every `{use: NAME}` in it as what that name stands for.

        depth: how deep in the document the node stands, definitions within definitions counted.

        Raises:
            DiagnosticError: no such name, or one that stands for itself (EVO116); too many values (EVO103), or too deep
                ones (EVO104).
        """
        self.size += 1
        if self.size > MAX_NODES:
            raise _fault("EVO103", f"the document expands to more than {MAX_NODES:,} values", node.span)
        if depth > MAX_DEPTH:
            raise _fault("EVO104", f"definitions within definitions nest deeper than {MAX_DEPTH} levels", node.span)
        if isinstance(node.value, tuple):
            items = (self.expanded(item, place.item(item), visiting, depth + 1) for item in node.value)
            return replace(node, value=tuple(items))
        if not isinstance(node.value, dict):
            return node
        if USE in node.value:
            return self._used(node, place, visiting, depth)
        entries = {
            key: replace(entry, node=self.expanded(entry.node, place.into(key, entry.node), visiting, depth + 1))
            for key, entry in node.value.items()
        }
        return replace(node, value=entries)

    def _used(self, node: Node, place: Place, visiting: tuple[str, ...], depth: int) -> Node:
        assert isinstance(node.value, dict)
        told = node.value[USE].node
        name = told.value
        if not isinstance(name, str) or name not in self.table:
            known = f"defined are {', '.join(self.table)}" if self.table else "nothing is defined"
            help = f"{suggestion(name, self.table) if isinstance(name, str) else ''}{known}"
            raise _fault("EVO116", f"there is no definition '{told.plain()}'", told.span, help)
        if name in visiting:
            raise _fault("EVO116", f"the definition '{name}' stands for itself", told.span)
        self.used.add(name)
        value = self.expanded(self.table[name].node, place, (*visiting, name), depth + 1)
        changes = {key: entry for key, entry in node.value.items() if key != USE}
        if not changes:
            return value
        if not isinstance(value.value, dict) and names_of(value) is None:
            help = f"write {{{USE}: {name}}} alone"
            raise _fault("EVO116", f"'{name}' is no mapping, so nothing of it can be changed", told.span, help)
        over = self.expanded(Node(changes, node.span), place, visiting, depth)
        return merged(value, over, replace(place, cls=place.item(value).cls))


def _fault(code: str, message: str, span: Span | None, help: str | None = None) -> DiagnosticError:
    return DiagnosticError([Diagnostic(code, message, span, help)])
