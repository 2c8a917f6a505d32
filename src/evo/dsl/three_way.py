"""Merging two changed documents with the one that both began from: what only one changed, and where they disagree."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evo.dsl.canonical import to_data
from evo.dsl.document import Document
from evo.dsl.patch import ABSENT, by_name, same
from evo.dsl.tree import Path
from evo.dsl.yaml import write

Sides = tuple[Any, Any, Any]
"""One value of the base, ours, theirs."""


@dataclass(frozen=True)
class Conflict:
    """A place that both sides changed, each to another value; ABSENT: taken away."""

    path: Path
    ours: Any
    theirs: Any


@dataclass(frozen=True)
class Merge:
    """What came of it: canonical data with our values, and with theirs, at the conflicts."""

    ours: Any
    theirs: Any
    conflicts: tuple[Conflict, ...]

    def text(self, ours: str = "ours", theirs: str = "theirs") -> str:
        """The merged document, with git's markers around the lines that conflicts concern."""
        return "".join(_marked(write(self.ours), write(self.theirs), ours, theirs))


def merge(base: Document, ours: Document, theirs: Document) -> Merge:
    """Merge in canonical form: keys by name, entries of named lists by their names, everything else as a whole.

    A mapping whose kind a side changed is one value.
    """
    found: list[Conflict] = []
    mine, other = _merged((to_data(base), to_data(ours), to_data(theirs)), (), found)
    return Merge(mine, other, tuple(found))


def _merged(sides: Sides, path: Path, found: list[Conflict]) -> tuple[Any, Any]:
    """The value with ours, and with theirs, where both changed it."""
    base, ours, theirs = sides
    if same(ours, theirs) or same(base, theirs):
        return ours, ours
    if same(base, ours):
        return theirs, theirs
    if _are_mappings(sides):
        return _mappings(base, ours, theirs, path, found)
    before, mine, other = map(by_name, sides)
    if before and mine and other:
        merged = _mappings(before, mine, other, path, found)
        return [*merged[0].values()], [*merged[1].values()]
    found.append(Conflict(path, ours, theirs))
    return ours, theirs


def _are_mappings(sides: Sides) -> bool:
    """Whether they are mappings of one kind."""
    return all(isinstance(side, dict) for side in sides) and len({str(side.get("kind")) for side in sides}) == 1


def _mappings(
    base: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any], path: Path, found: list[Conflict]
) -> tuple[dict[str, Any], dict[str, Any]]:
    mine: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for key in _order(list(ours), list(theirs)):
        sides = (base.get(key, ABSENT), ours.get(key, ABSENT), theirs.get(key, ABSENT))
        ours_here, theirs_here = _merged(sides, (*path, key), found)
        if ours_here is not ABSENT:
            mine[key] = ours_here
        if theirs_here is not ABSENT:
            other[key] = theirs_here
    return mine, other


def _order(ours: list[str], theirs: list[str]) -> list[str]:
    """Our names in order, each that only they have behind the one before it there."""
    names = list(ours)
    for index, name in enumerate(theirs):
        if name not in names:
            names.insert(names.index(theirs[index - 1]) + 1 if index else 0, name)
    return names


def _marked(ours: str, theirs: str, our_name: str, their_name: str) -> Iterator[str]:
    mine, other = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    for tag, a, b, c, d in difflib.SequenceMatcher(None, mine, other, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from mine[a:b]
        else:
            yield from (f"<<<<<<< {our_name}\n", *mine[a:b], "=======\n", *other[c:d], f">>>>>>> {their_name}\n")
