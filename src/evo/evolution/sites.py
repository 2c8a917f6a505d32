"""The genome: a spec seen as a tree of places that evolution may change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evo.dsl.genes import Fixed
from evo.dsl.spec import FieldShape, Spec, shapes

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Site:
    """One field of one spec: where it stands, what it is, and its present value."""

    path: Path
    shape: FieldShape
    value: Any


def sites(spec: Spec, path: Path = ()) -> Iterator[Site]:
    """Every evolvable field below a spec, parents before children."""
    for key, shape in shapes(type(spec)).items():
        if shape.meta(Fixed) is not None:
            continue
        value = getattr(spec, shape.name)
        yield Site((*path, key), shape, value)
        for step, item in _children(value):
            if isinstance(item, Spec):
                yield from sites(item, (*path, key, *step))


def _children(value: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Spec):
        yield (), value
    elif isinstance(value, tuple):
        yield from (((index,), item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from (((key,), item) for key, item in value.items())


def replace_at(value: Any, path: Path, new: Any) -> Any:
    """A copy of `value` with `new` at `path`. Not validated: the result becomes a document only through its patch."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, Spec):
        name = shapes(type(value))[str(step)].name
        return value.model_copy(update={name: replace_at(getattr(value, name), rest, new)})
    if isinstance(value, tuple):
        items = list(value)
        items[int(step)] = replace_at(items[int(step)], rest, new)
        return tuple(items)
    assert isinstance(value, dict)
    return {**value, step: replace_at(value[step], rest, new)}
