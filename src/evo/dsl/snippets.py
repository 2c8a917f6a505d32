"""What an editor puts in for a kind: its required fields, each with a value that is right there."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from evo.dsl.describe import first_sentence, summary
from evo.dsl.genes import Gene
from evo.dsl.index import DEFAULT_KIND, keyed, kind_class, members, tagged
from evo.dsl.spec import Spec, SpecField, spec_fields

Json = dict[str, Any]


def snippets(role: str) -> list[Json]:
    """One a kind of a role, as `defaultSnippets` of a JSON Schema, which yaml-language-server and VS Code read.

    A kind with a required field that has neither an example nor a gene has none.
    """
    found: list[Json] = []
    for kind in (*tagged(role), *keyed(role)):
        with suppress(LookupError):
            description = first_sentence(summary(kind_class(role, kind)))
            found.append({"label": kind, "description": description, "body": _of_kind(role, kind)})
    return found


def _of_kind(role: str, kind: str) -> Json:
    cls = kind_class(role, kind)
    return _shortest(cls) if cls.is_keyed else {"kind": kind, **_shortest(cls)}


def _shortest(cls: type[Spec]) -> Json:
    return {key: _value(field) for key, field in spec_fields(cls).items() if field.info.is_required()}


def _value(field: SpecField) -> Any:
    if field.many is None:
        return _one(field)
    least = max(getattr(item, "min_length", 1) for item in (*field.info.metadata, field.many))
    return _one(field) if field.many.bare and least == 1 else [_one(field)] * least


def _one(field: SpecField) -> Any:
    """A value: a spec of the role's usual or first kind, the field's example, or the middle of its gene."""
    if field.nested is not None:
        return _shortest(field.nested)
    if field.kind is not None:
        role = members(field.kind.role)[0]
        return _of_kind(role, DEFAULT_KIND.get(role, tagged(role)[0]))
    if field.info.examples:
        return field.info.examples[0]
    gene = field.meta(Gene)
    if gene is None:
        raise LookupError(field.key)
    return 2 ** int(math.log2(gene.low * gene.high) / 2)
