"""Patches: the only way to change a spec.

A patch is a list of edits on the canonical form. `rewrite` makes one of new values at some places, `diff(a, b)` finds
one, `apply` replays it, `invert` turns it round; apply(diff(a, b), a) == b for all documents a and b. Mutation,
crossover, lineage, options of the command line and `evo diff` all speak it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from evo.base.diagnostics import Diagnostic, DiagnosticError, Span, in_order
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, Loaded, from_data
from evo.dsl.spec import Spec
from evo.dsl.tree import Path, replaced
from evo.dsl.yaml import Data, Node, write
from evo.dsl.yaml.writer import flow

PATCH_VERSION = 1
_INDEX = re.compile("[0-9]{1,6}")


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"

    def __reduce__(self) -> str:
        return "ABSENT"  # one object, also after copying and in other processes


ABSENT = _Absent()
"""Stands for a value that is not written: the field's default, or no list entry."""
Value: TypeAlias = "Data | _Absent"


@dataclass(frozen=True)
class Edit:
    """One change: the value at `path` was `old` and becomes `new`; either may be ABSENT.

    Steps of a path are keys, indices of plain lists, and names of entries in lists of named mappings (stages). `at` is
    set for entries that come into or leave such a list: their index at that moment. `span`: where it was read.
    """

    path: Path
    old: Any
    new: Any
    at: int | None = None
    span: Span | None = field(default=None, compare=False, repr=False)

    def invert(self) -> Edit:
        """The edit that undoes this one."""
        return Edit(self.path, self.new, self.old, self.at, self.span)

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
    """A patch from its parsed file. Raises DiagnosticError with everything that keeps it from being one."""
    faults: list[Diagnostic] = []
    version, edits = node.child("evo_patch"), node.child("edits")
    if version is None or version.plain() is not PATCH_VERSION or edits is None or not isinstance(edits.value, tuple):
        message = f"not a patch: expected `evo_patch: {PATCH_VERSION}` and a list of `edits`"
        raise DiagnosticError([Diagnostic("EVO401", message, node.span)], text)
    assert isinstance(node.value, dict)
    for key in set(node.value) - {"evo_patch", "edits"}:
        faults.append(Diagnostic("EVO401", f"unknown key '{key}' in a patch", node.key_at((key,))))
    found = [_edit(item, faults) for item in edits.value]
    if faults:
        raise DiagnosticError(in_order(faults), text)
    return Patch(tuple(edit for edit in found if edit is not None))


def _edit(node: Node, faults: list[Diagnostic]) -> Edit | None:
    data: Data = node.plain()
    if isinstance(data, dict) and set(data) <= {"path", "old", "new", "at"} and {"old", "new"} & set(data):
        path, at = data.get("path"), data.get("at")
        is_index = at is None or (type(at) is int and at >= 0)
        if isinstance(path, str) and path and is_index:
            assert at is None or isinstance(at, int)
            steps = tuple(int(step) if _INDEX.fullmatch(step) else step for step in path.split("."))
            return Edit(steps, data.get("old", ABSENT), data.get("new", ABSENT), at, node.span)
    help = "write {path: organism.width, old: 128, new: 256}"
    faults.append(Diagnostic("EVO401", "not an edit", node.span, help))
    return None


def rewrite(spec: Spec, changes: Mapping[Path, Any]) -> Patch:
    """The patch that puts new values at some places, with paths as `tree.walk` gives them: specs, or plain data."""
    return diff_data(to_data(spec), to_data(replaced(spec, changes)))


def diff(before: Document, after: Document) -> Patch:
    """The patch that turns one document into the other, in their canonical forms."""
    return diff_data(to_data(before), to_data(after))


def diff_data(before: Any, after: Any) -> Patch:
    """The same for plain canonical data."""
    return Patch(tuple(_diff(before, after, ())))


def apply(patch: Patch, document: Document) -> Loaded:
    """The changed document, parsed afresh. Raises DiagnosticError where an edit does not fit or the result is none."""
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


def same(a: Value, b: Value) -> bool:
    """Equality that tells 1, 1.0 and true apart, and that no order of keys disturbs."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _diff(a: Value, b: Value, path: Path) -> Iterator[Edit]:
    if same(a, b):
        return
    if isinstance(a, dict) and isinstance(b, dict) and a.get("kind") == b.get("kind"):
        for key in [*a, *(key for key in b if key not in a)]:
            yield from _diff(a.get(key, ABSENT), b.get(key, ABSENT), (*path, key))
    elif (named_a := by_name(a)) and (named_b := by_name(b)):
        yield from _diff_named(named_a, named_b, path)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _diff(x, y, (*path, index))
    else:
        yield Edit(path, a, b)


def _diff_named(a: dict[str, Data], b: dict[str, Data], path: Path) -> Iterator[Edit]:
    """Entries that leave (last first), entries that come (first first), then what changed inside those that stay."""
    kept = set(_longest_common(list(a), list(b)))
    for index, (name, item) in reversed(list(enumerate(a.items()))):
        if name not in kept:
            yield Edit((*path, name), item, ABSENT, index)
    for index, (name, item) in enumerate(b.items()):
        if name not in kept:
            yield Edit((*path, name), ABSENT, item, index)
    for name, item in a.items():
        if name in kept:
            yield from _diff(item, b[name], (*path, name))


def _longest_common(a: list[str], b: list[str]) -> list[str]:
    """The longest list of names that both hold in this order."""
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            longer = max(length[i + 1][j], length[i][j + 1])
            length[i][j] = length[i + 1][j + 1] + 1 if a[i] == b[j] else longer
    common: list[str] = []
    i = j = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            common.append(a[i])
            i, j = i + 1, j + 1
        elif length[i + 1][j] >= length[i][j + 1]:
            i += 1
        else:
            j += 1
    return common


def by_name(items: Value) -> dict[str, Data] | None:
    """The entries of a list whose entries all have a name of their own; None for anything else."""
    if not isinstance(items, list):
        return None
    named = {name: item for item in items if isinstance(name := _name(item), str)}
    return named if len(named) == len(items) else None


def _name(item: Data) -> Data:
    return item.get("name") if isinstance(item, dict) else None


def _apply_edit(root: Data, edit: Edit) -> None:
    parent = root
    for step in edit.path[:-1]:
        if isinstance(parent, dict) and step not in parent and edit.old is ABSENT:
            parent[str(step)] = {}
        parent = _step(parent, step, edit)
    key = edit.path[-1] if edit.path else ""
    if isinstance(parent, dict) and edit.at is None:
        _apply_to_mapping(parent, str(key), edit)
    elif isinstance(parent, list) and isinstance(key, str):
        _apply_to_named(parent, key, edit)
    elif isinstance(parent, list) and isinstance(key, int) and key < len(parent) and edit.new is not ABSENT:
        _expect(parent[key], edit)
        parent[key] = copy.deepcopy(edit.new)
    else:
        raise _conflict(edit, "there is nothing at that path that it could change")


def _apply_to_mapping(parent: dict[str, Data], key: str, edit: Edit) -> None:
    _expect(parent.get(key, ABSENT), edit)
    if edit.new is ABSENT:
        parent.pop(key, None)
    else:
        parent[key] = copy.deepcopy(edit.new)


def _apply_to_named(parent: list[Data], name: str, edit: Edit) -> None:
    index = next((i for i, item in enumerate(parent) if _name(item) == name), None)
    _expect(ABSENT if index is None else parent[index], edit)
    if edit.new is not ABSENT and _name(edit.new) != name:
        raise _conflict(edit, f"what comes there must be named '{name}'")
    if edit.new is ABSENT and index is not None:
        parent.pop(index)
    elif index is not None:
        parent[index] = copy.deepcopy(edit.new)
    elif edit.at is not None:
        parent.insert(edit.at, copy.deepcopy(edit.new))
    else:
        raise _conflict(edit, "an entry that comes needs its index, `at`")


def _step(parent: Data, step: str | int, edit: Edit) -> Data:
    if isinstance(parent, dict) and step in parent:
        return parent[str(step)]
    if isinstance(parent, list):
        if isinstance(step, int) and step < len(parent):
            return parent[step]
        for item in parent:
            if _name(item) == step:
                return item
    raise _conflict(edit, f"there is no '{step}'")


def _expect(found: Value, edit: Edit) -> None:
    if not same(found, edit.old):
        raise _conflict(edit, f"it expects {_shown(edit.old)} and finds {_shown(found)}")


def _shown(value: Value) -> str:
    return "nothing" if isinstance(value, _Absent) else flow(value)


def _conflict(edit: Edit, reason: str) -> DiagnosticError:
    where = ".".join(map(str, edit.path)) or "(no path)"
    help = "a patch applies to the document it was made from, or to one that agrees where it edits"
    return DiagnosticError([Diagnostic("EVO400", f"the edit of {where} does not fit: {reason}", edit.span, help)])
