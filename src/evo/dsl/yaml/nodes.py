"""The parsed document: values that know where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from evo.base.diagnostics import Span

Scalar = str | int | float | bool | None
Data: TypeAlias = "Scalar | list[Data] | tuple[Data, ...] | dict[str, Data]"
"""Plain data: what YAML holds once positions are taken away."""


@dataclass(frozen=True)
class Node:
    """One YAML value: a scalar, a tuple of nodes, or a mapping from text keys to entries."""

    value: Scalar | tuple[Node, ...] | dict[str, Entry]
    span: Span | None = None

    def at(self, path: Sequence[str | int]) -> Span | None:
        """The place of the value at `path`, or of the nearest ancestor that exists."""
        node, span = self, self.span
        for step in path:
            child = node if node._bare(step) else node.child(step)
            if child is None:
                return span
            node, span = child, child.span
        return span

    def key_at(self, path: Sequence[str | int]) -> Span | None:
        """The place of the key that leads to `path` (of the value itself where it stands in a list)."""
        parent = self
        for step in path[:-1]:
            child = parent if parent._bare(step) else parent.child(step)
            if child is None:
                return parent.span
            parent = child
        if path and isinstance(parent.value, dict) and path[-1] in parent.value:
            return parent.value[str(path[-1])].key
        return self.at(path)

    def child(self, step: str | int) -> Node | None:
        """The value under a key or index, or None."""
        if isinstance(self.value, dict):
            entry = self.value.get(str(step))
            return entry.node if entry else None
        if isinstance(self.value, tuple) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None

    def _bare(self, step: str | int) -> bool:
        """Whether this node is itself the one item of a list written without brackets."""
        return step == 0 and not isinstance(self.value, tuple) and self.child(step) is None

    def plain(self) -> Any:
        """The value as plain data, without positions."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        return self.value


@dataclass(frozen=True)
class Entry:
    """A mapping's value with the place of its key."""

    key: Span | None
    node: Node


def node_of(data: Data) -> Node:
    """Plain data as a node without positions."""
    if isinstance(data, dict):
        return Node({key: Entry(None, node_of(value)) for key, value in data.items()})
    if isinstance(data, list | tuple):
        return Node(tuple(node_of(item) for item in data))
    return Node(data)
