"""Patches: the only way to change a spec.

A patch is a list of edits on the canonical form. `diff(a, b)` finds one, `apply` replays it, `invert` turns it round;
apply(diff(a, b), a) == b for all documents a and b. Mutation, crossover, lineage and `evo diff` all speak it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, Loaded, from_data
from evo.dsl.yaml import Node, write
from evo.dsl.yaml.writer import flow

PATCH_VERSION = 1
Path = tuple[str | int, ...]


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"

    def __deepcopy__(self, memo: Any) -> _Absent:
        return self


ABSENT = _Absent()
"""Stands for a value that is not written: the field's default, or no list entry."""


@dataclass(frozen=True)
class Edit:
    """One change: the value at `path` was `old` and becomes `new`; either may be ABSENT.

    Steps of a path are keys, indices of plain lists, and names of entries in lists of named mappings (stages). `at` is
    set for entries that come into or leave such a list: their index at that moment.
    """

    path: Path
    old: Any
    new: Any
    at: int | None = None

    def invert(self) -> Edit:
        """The edit that undoes this one."""
        return Edit(self.path, self.new, self.old, self.at)

    def __str__(self) -> str:
        where = ".".join(map(str, self.path))
        if self.old is ABSENT:
            place = "" if self.at is None else f"  (at {self.at})"
            return f"+ {where}: {flow(self.new)}{place}"
        if self.new is ABSENT:
            return f"- {where}: {flow(self.old)}"
        return f"~ {where}: {flow(self.old)} -> {flow(self.new)}"


@dataclass(frozen=True)
class Patch:
    """Edits in the order they apply."""

    edits: tuple[Edit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.edits)

    def __str__(self) -> str:
        return "\n".join(map(str, self.edits))

    def invert(self) -> Patch:
        """The patch that undoes this one."""
        return Patch(tuple(edit.invert() for edit in reversed(self.edits)))

    def to_data(self) -> dict[str, Any]:
        """The serialised form, as plain data."""
        return {"evo_patch": PATCH_VERSION, "edits": [_edit_data(edit) for edit in self.edits]}

    def to_yaml(self) -> str:
        """The serialised form, as text that `evo apply` reads."""
        return write(self.to_data())


def patch_from_node(node: Node, text: str = "") -> Patch:
    """A patch from its parsed file. Raises DiagnosticError where it is not one."""
    data = node.plain()
    if not isinstance(data, dict) or data.get("evo_patch") != PATCH_VERSION or not isinstance(data.get("edits"), list):
        message = f"not a patch: expected `evo_patch: {PATCH_VERSION}` and a list of `edits`"
        raise DiagnosticError([Diagnostic("EVO401", message, node.span)], text)
    edits: list[Edit] = []
    for index, item in enumerate(data["edits"]):
        known = isinstance(item, dict) and set(item) <= {"path", "old", "new", "at"}
        at = item.get("at") if known else None
        if not known or not isinstance(item.get("path"), str) or not isinstance(at, int | None):
            span = node.at(("edits", index))
            help = "write {path: organism.width, old: 128, new: 256}"
            raise DiagnosticError([Diagnostic("EVO401", "not an edit", span, help)], text)
        steps = tuple(int(step) if step.isdigit() else step for step in item["path"].split("."))
        edits.append(Edit(steps, item.get("old", ABSENT), item.get("new", ABSENT), at))
    return Patch(tuple(edits))


def diff(before: Document, after: Document) -> Patch:
    """The patch that turns one document into the other, in their canonical forms."""
    return diff_data(to_data(before), to_data(after))


def diff_data(before: Any, after: Any) -> Patch:
    """The same for plain canonical data."""
    return Patch(tuple(_diff(before, after, ())))


def apply(patch: Patch, document: Document) -> Loaded:
    """The changed document, parsed afresh. Raises DiagnosticError where an edit does not fit or the result is no document."""
    return from_data(apply_data(patch, to_data(document)))


def apply_data(patch: Patch, data: Any) -> Any:
    """Changed canonical data; not validated."""
    result = copy.deepcopy(data)
    for edit in patch.edits:
        _apply_edit(result, edit)
    return result


def _edit_data(edit: Edit) -> dict[str, Any]:
    data: dict[str, Any] = {"path": ".".join(map(str, edit.path))}
    for key, value in (("old", edit.old), ("new", edit.new)):
        if value is not ABSENT:
            data[key] = value
    return data if edit.at is None else {**data, "at": edit.at}


def _same(a: Any, b: Any) -> bool:
    """Equality that tells 1, 1.0 and true apart."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _diff(a: Any, b: Any, path: Path) -> Iterator[Edit]:
    if _same(a, b):
        return
    if isinstance(a, dict) and isinstance(b, dict) and a.get("kind") == b.get("kind"):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _diff(a.get(key, ABSENT), b.get(key, ABSENT), (*path, key))
    elif _is_named(a) and _is_named(b):
        yield from _diff_named(a, b, path)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _diff(x, y, (*path, index))
    else:
        yield Edit(path, a, b)


def _diff_named(a: list[Any], b: list[Any], path: Path) -> Iterator[Edit]:
    """Entries that leave (last first), entries that come (first first), then what changed inside those that stay."""
    names_a, names_b = [item["name"] for item in a], [item["name"] for item in b]
    kept = set(_longest_common(names_a, names_b))
    for index in reversed(range(len(a))):
        if names_a[index] not in kept:
            yield Edit((*path, names_a[index]), a[index], ABSENT, index)
    for index, item in enumerate(b):
        if names_b[index] not in kept:
            yield Edit((*path, names_b[index]), ABSENT, item, index)
    by_name = {item["name"]: item for item in b}
    for item in a:
        if item["name"] in kept:
            yield from _diff(item, by_name[item["name"]], (*path, item["name"]))


def _longest_common(a: list[str], b: list[str]) -> list[str]:
    best: list[list[list[str]]] = [[[] for _ in range(len(b) + 1)] for _ in range(len(a) + 1)]
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i] == b[j]:
                best[i + 1][j + 1] = [*best[i][j], a[i]]
            else:
                best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j], key=len)
    return best[-1][-1]


def _is_named(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    names = [item.get("name") if isinstance(item, dict) else None for item in value]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _apply_edit(root: Any, edit: Edit) -> None:
    if not edit.path:
        raise _conflict(edit, "it has no path")
    parent = root
    for step in edit.path[:-1]:
        if isinstance(parent, dict) and step not in parent and edit.old is ABSENT:
            parent[step] = {}
        parent = _step(parent, step, edit)
    key = edit.path[-1]
    if isinstance(parent, dict):
        _apply_to_mapping(parent, key, edit)
    elif isinstance(parent, list) and edit.at is not None:
        _apply_to_named(parent, key, edit)
    elif isinstance(parent, list) and isinstance(key, int) and key < len(parent):
        _expect(parent[key], edit)
        parent[key] = copy.deepcopy(edit.new)
    else:
        raise _conflict(edit, "there is nothing at that path")


def _apply_to_mapping(parent: dict[Any, Any], key: str | int, edit: Edit) -> None:
    _expect(parent.get(key, ABSENT), edit)
    if edit.new is ABSENT:
        parent.pop(key, None)
    else:
        parent[key] = copy.deepcopy(edit.new)


def _apply_to_named(parent: list[Any], name: str | int, edit: Edit) -> None:
    assert edit.at is not None
    index = next((i for i, item in enumerate(parent) if item.get("name") == name), None)
    _expect(ABSENT if index is None else parent[index], edit)
    if edit.new is ABSENT:
        assert index is not None
        parent.pop(index)
    else:
        parent.insert(edit.at, copy.deepcopy(edit.new))


def _step(parent: Any, step: str | int, edit: Edit) -> Any:
    if isinstance(parent, dict) and step in parent:
        return parent[step]
    if isinstance(parent, list):
        if isinstance(step, int) and step < len(parent):
            return parent[step]
        for item in parent:
            if isinstance(item, dict) and item.get("name") == step:
                return item
    raise _conflict(edit, f"there is no '{step}'")


def _expect(found: Any, edit: Edit) -> None:
    if not _same(found, edit.old):
        shown = "nothing" if found is ABSENT else flow(found)
        expected = "nothing" if edit.old is ABSENT else flow(edit.old)
        raise _conflict(edit, f"it expects {expected} and finds {shown}")


def _conflict(edit: Edit, reason: str) -> DiagnosticError:
    where = ".".join(map(str, edit.path)) or "(no path)"
    help = "a patch applies to the document it was made from, or to one that agrees where it edits"
    return DiagnosticError([Diagnostic("EVO400", f"the edit of {where} does not fit: {reason}", None, help)])
