"""A document with nothing left out: every default written, the opposite of the canonical form."""

from __future__ import annotations

from typing import Any, cast

from evo.compiler.check import problems
from evo.dsl.canonical import living
from evo.dsl.document import Document, from_data
from evo.dsl.spec import Spec, SpecField, spec_fields

UNREAD = "EVO330"
"""What is said of a field that means nothing where it stands."""


def filled(document: Document) -> dict[str, Any]:
    """A document as plain data with every field of it and of the specs inside it, which reads back as the same.

    Left out are parts that no stage uses, and fields that mean nothing beside what the others say.
    """
    data = _filled(document)
    while unread := [fault.path for fault in problems(from_data(data).document) if fault.code == UNREAD]:
        for path in sorted(unread, key=len, reverse=True):  # what stands inside another goes first
            _remove(data, path)
    return data


def _filled(spec: Spec) -> dict[str, Any]:
    spec = living(spec)
    data: dict[str, Any] = {} if spec.kind is None or spec.is_keyed else {"kind": spec.kind}
    for key, field in spec_fields(type(spec)).items():
        if field.name not in spec.unread:
            data[key] = _value(getattr(spec, field.name), field)
    return data


def _value(value: Any, field: SpecField) -> Any:
    if isinstance(value, Spec):
        return _filled(value)
    if isinstance(value, tuple):
        items = [_value(item, field) for item in cast(tuple[Any, ...], value)]
        return items[0] if field.many and field.many.bare and len(items) == 1 else items
    if isinstance(value, dict):
        table = cast(dict[str, Any], value)
        return {key: _value(table[key], field) for key in sorted(table)}
    return value


def _remove(data: Any, path: tuple[str | int, ...]) -> None:
    """Take a key away; the one item of a list that is written without brackets is the list."""
    *steps, last = path
    inner: Any = data
    for step in steps:
        if step != 0 or isinstance(inner, list):
            inner = cast(Any, inner)[step]
    inner.pop(last, None)
