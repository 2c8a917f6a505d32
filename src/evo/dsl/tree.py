"""The tree of specs: every field of it in order, a copy with other values at some places, names written out.

What the language may do with a tree without knowing any kind stands here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from evo.dsl.spec import Spec, SpecField, spec_fields

Path = tuple[str | int, ...]
"""Keys, names in tables and indices in lists (a bare list's too), from the root of what is walked."""
S = TypeVar("S", bound=Spec)


@dataclass(frozen=True)
class Place:
    """One field of one spec.

    path: where the field stands. owner: the spec that has it. value: what it holds now, with lists and tables whole.
    """

    path: Path
    owner: Spec
    field: SpecField
    value: Any

    @property
    def role(self) -> str | None:
        """The role of the specs that it holds; None if it holds none, or always one and the same class."""
        return self.field.kind and self.field.kind.role

    def entries(self) -> Iterator[tuple[Path, Any]]:
        """The single values in it, each with its path: those of a list or table, or the value itself."""
        yield from _entries(self.field, self.value, self.path)


def _entries(field: SpecField, value: Any, path: Path) -> list[tuple[Path, Any]]:
    if field.table:
        return [((*path, name), item) for name, item in value.items()]
    if isinstance(value, tuple):
        return [((*path, index), item) for index, item in enumerate(cast(tuple[Any, ...], value))]
    return [(path, value)]


def _any_field(field: SpecField) -> bool:
    del field
    return True


def walk(spec: Spec, path: Path = (), within: Callable[[SpecField], bool] = _any_field) -> Iterator[Place]:
    """Every field of a spec and of the specs inside it, in the order of the classes, parents before children.

    Names are not followed. path: where the spec stands. within: fields for which it is false are left out with all
    that is below them.
    """
    for place in places(spec, path, within):
        yield place
        if isinstance(place.value, Spec | tuple | dict):
            for where, item in place.entries():
                if isinstance(item, Spec):
                    yield from walk(item, where, within)


def places(spec: Spec, path: Path = (), within: Callable[[SpecField], bool] = _any_field) -> Iterator[Place]:
    """The fields of a spec itself; see `walk`."""
    for key, field in spec_fields(type(spec)).items():
        if within(field):
            yield Place((*path, key), spec, field, getattr(spec, field.name))


@cache
def _holding(cls: type[Spec]) -> tuple[SpecField, ...]:
    """The fields that may hold specs or their names: few of all, and every check of a document looks for those."""
    return tuple(field for field in spec_fields(cls).values() if field.kind or field.nested or field.names)


def specs(spec: Spec, path: Path = ()) -> list[tuple[Path, Spec]]:
    """A spec and every spec inside it, each with its path, parents before children."""
    found = [(path, spec)]
    _find_specs(spec, path, found)
    return found


def _find_specs(spec: Spec, path: Path, found: list[tuple[Path, Spec]]) -> None:
    for field in _holding(type(spec)):
        entries = _entries(field, getattr(spec, field.name), (*path, field.key))
        held = [(where, item) for where, item in entries if isinstance(item, Spec)]
        found += held
        for where, item in held:
            _find_specs(item, where, found)


def names(spec: Spec) -> list[tuple[Path, str]]:
    """Every text in a spec that stands for another spec, with its path."""
    found: list[tuple[Path, str]] = []
    _find_names(spec, (), found)
    return found


def _find_names(spec: Spec, path: Path, found: list[tuple[Path, str]]) -> None:
    for field in _holding(type(spec)):
        entries = _entries(field, getattr(spec, field.name), (*path, field.key))
        if field.names:
            found += [(where, item) for where, item in entries if isinstance(item, str)]
        for where, item in entries:
            if isinstance(item, Spec):
                _find_names(item, where, found)


def found_at(spec: Spec, path: tuple[str, ...]) -> Any:
    """The value at a path as people write it: keys, names of entries in lists of named specs or in tables, indices.

    A list where a step fits no entry but its only one is meant stands for that one. Raises KeyError where nothing is.
    """
    value: Any = spec
    for step in path:
        value = _inner(value, step)
    return value


def _inner(value: Any, step: str) -> Any:
    if isinstance(value, Spec):
        return getattr(value, spec_fields(type(value))[step].name)
    if isinstance(value, dict):
        return cast(dict[str, Any], value)[step]
    if not isinstance(value, tuple):
        raise KeyError(step)
    items = cast(tuple[Any, ...], value)
    named = next((item for item in items if getattr(item, "name", None) == step), None)
    if named is not None:
        return named
    if step.isdecimal() and int(step) < len(items):
        return items[int(step)]
    if len(items) == 1:
        return _inner(items[0], step)
    raise KeyError(step)


def replaced(spec: S, changes: Mapping[Path, Any]) -> S:
    """A copy with other values at some paths, made in that order. Not validated: only a patch makes it a document."""
    for path, new in changes.items():
        spec = _replaced(spec, path, new)
    return spec


def _replaced(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, Spec):
        name = spec_fields(type(value))[str(step)].name
        return value.model_copy(update={name: _replaced(getattr(value, name), rest, new)})
    if isinstance(value, tuple):
        items = list(cast(tuple[Any, ...], value))
        items[int(step)] = _replaced(items[int(step)], rest, new)
        return tuple(items)
    assert isinstance(value, dict)
    table = cast(dict[str, Any], value)
    return {**table, str(step): _replaced(table[str(step)], rest, new)}


def inline(spec: S, pseudopods: Mapping[str, Spec]) -> S:
    """The spec with every name in it written out as what it stands for, in any composite and at any depth.

    Raises KeyError for a name that is not there. No name may contain itself.
    """
    return replaced(spec, {path: inline(pseudopods[name], pseudopods) for path, name in names(spec)})
