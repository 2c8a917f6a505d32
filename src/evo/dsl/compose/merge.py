"""One document over another: what the second writes takes the place of what the first has there."""

from __future__ import annotations

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.dsl.compose.place import Place
from evo.dsl.yaml import Entry, Node

USE = "use"
"""The key of a mapping that stands for a definition."""


def merged(base: Node, over: Node, place: Place) -> Node:
    """The base with what is written over it.

    Mappings are merged key by key, unless the second is of another kind; entries of a list that have names are changed
    by a mapping from names, in which null takes an entry away; anything else is replaced.

    Raises:
        DiagnosticError: a name that the list does not have (EVO115).
    """
    if isinstance(over.value, dict) and isinstance(base.value, tuple) and (names := names_of(base)) is not None:
        return _merged_entries(base, names, over, place)
    if not isinstance(base.value, dict) or not isinstance(over.value, dict) or _is_another(base, over, place):
        return over
    entries = dict(base.value)
    for key, entry in over.value.items():
        before = base.child(key)
        inside = place.into(key, before)
        node = entry.node if before is None else merged(before, entry.node, inside)
        entries[key] = Entry(entry.key, node)
    return Node(entries, over.span)


def names_of(node: Node) -> list[str] | None:
    """The names of the entries of a list, if each has one."""
    if not isinstance(node.value, tuple) or not node.value:
        return None
    found = [item.child("name") for item in node.value]
    names = [name.value for name in found if name is not None and isinstance(name.value, str)]
    return names if len(names) == len(node.value) else None


def _merged_entries(base: Node, names: list[str], over: Node, place: Place) -> Node:
    assert isinstance(base.value, tuple)
    assert isinstance(over.value, dict)
    for name, entry in over.value.items():
        if name not in names:
            help = f"{suggestion(name, names)}there are {', '.join(names)}; a list in its place replaces all of them"
            raise DiagnosticError([Diagnostic("EVO115", f"no entry is named '{name}' here", entry.key, help)])
    items: list[Node] = []
    for name, item in zip(names, base.value, strict=True):
        entry = over.value.get(name)
        if entry is None:
            items.append(item)
        elif entry.node.value is not None:
            items.append(merged(item, entry.node, place.item(item)))
    return Node(tuple(items), base.span)


def _is_another(base: Node, over: Node, place: Place) -> bool:
    """Whether what is written over a mapping says that it is of another kind."""
    assert isinstance(over.value, dict)
    for tag in ("kind", USE):
        told = over.child(tag)
        if told is not None:
            before = base.child(tag)
            return before is None or before.value != told.value
    return any(base.child(key) is None and place.is_told_by(key) for key in over.value)
