"""`--set train.steps=200`: values that the command line puts into a document, each positioned in its own text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span, suggestion
from evo.dsl.compose.merge import names_of
from evo.dsl.compose.place import Place
from evo.dsl.spec import Spec
from evo.dsl.yaml import MAX_DEPTH, Entry, Node, read

SOURCE = "--set"
"""The file that positions in overrides name; its lines are the overrides."""
Step = tuple[str, Span]


def overridden(node: Node, place: Place, texts: Sequence[str]) -> Node:
    """The document with the value of each override at its path; later ones win.

    A path's steps are keys, indices of lists, and names of entries in lists of named mappings (stages). A kind alone
    stands for it with its defaults, and a path into what is left out goes into the default.

    Raises:
        DiagnosticError: text that is no override (EVO112), or one that leads nowhere (EVO113).
    """
    for line, text in enumerate(texts, 1):
        node = _put(node, place, *_read(text, line))
    return node


def _read(text: str, line: int) -> tuple[list[Step], Node]:
    path, equals, value = text.partition("=")
    span = Span(SOURCE, line, 1, max(1, len(path)))
    if not equals or not value.strip() or not all(path.strip().split(".")):
        help = "write KEY=VALUE, such as train.steps=200 or 'organism.norm={kind: layer}'; null for nothing"
        raise DiagnosticError([Diagnostic("EVO112", f"'{text}' is not an override", span, help)])
    if path.count(".") >= MAX_DEPTH:
        raise DiagnosticError([Diagnostic("EVO104", f"a path of more than {MAX_DEPTH} steps", span)])
    steps: list[Step] = []
    column = 1
    for step in path.split("."):
        steps.append((step.strip(), Span(SOURCE, line, column, len(step))))
        column += len(step) + 1
    return steps, read("\n" * (line - 1) + " " * len(path) + " " + value, SOURCE)


def _put(node: Node, place: Place, steps: list[Step], value: Node) -> Node:
    """The node with a value at the end of a path that is not empty."""
    (step, span), *rest = steps
    if isinstance(node.value, tuple):
        index = _index(node, step, span)
        item = node.value[index]
        new = _put(item, place.item(item), rest, value) if rest else _spelled(value, place)
        return replace(node, value=(*node.value[:index], new, *node.value[index + 1 :]))
    if not isinstance(node.value, dict):
        raise _nowhere(f"there is nothing inside '{node.plain()}'", span)
    if step == "0" and rest and node.child(step) is None:
        return _put(node, place, rest, value)  # the one item of a list written without brackets
    before = node.child(step)
    inside = place.into(step, before)
    if not rest:
        new = _spelled(value, inside)
    else:
        if before is None or before.value is None:
            before = _default(inside, span)
            inside = place.into(step, before)
        new = _put(before, inside, rest, value)
    return replace(node, value={**node.value, step: Entry(span, new)})


def _index(node: Node, step: str, span: Span) -> int:
    """The index of the item that a step names."""
    assert isinstance(node.value, tuple)
    names = names_of(node) or []
    if step in names:
        return names.index(step)
    if step.isascii() and step.isdigit() and int(step) < len(node.value):
        return int(step)
    known = f"there are {', '.join(names)}" if names else f"it has {len(node.value)} items, the first of which is 0"
    raise _nowhere(f"no item of the list is '{step}'", span, f"{suggestion(step, names)}{known}")


def _default(place: Place, span: Span) -> Node:
    """What a field holds that is left out, as far as a path may lead into it."""
    field = place.field
    default = field.default if field is not None and not field.info.is_required() else None
    kind = default.kind if isinstance(default, Spec) else None
    return Node({} if kind is None else {"kind": Entry(span, Node(kind, span))}, span)


def _spelled(value: Node, place: Place) -> Node:
    """A value as the document writes it: text for a spec is its kind, unless the field has words of its own."""
    field = place.field
    if field is None or field.kind is None or field.names or not isinstance(value.value, str):
        return value
    return value if value.value in field.words else Node({"kind": Entry(value.span, value)}, value.span)


def _nowhere(message: str, span: Span, help: str | None = None) -> DiagnosticError:
    return DiagnosticError([Diagnostic("EVO113", f"the override leads nowhere: {message}", span, help)])
