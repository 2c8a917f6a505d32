"""What the language says of itself: sections, roles, kinds and fields, from the metadata of the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from evo.base.diagnostics import Diagnostic, DiagnosticError, suggestion
from evo.dsl.describe import field_docs, first_sentence, summary
from evo.dsl.document import Document
from evo.dsl.foreign import KEYS, VALUES
from evo.dsl.index import DEFAULT_KIND, KINDS, UNIONS, keyed, kind_class, kinds, tagged
from evo.dsl.schema import field_schema
from evo.dsl.spec import Spec, SpecField, spec_fields
from evo.dsl.yaml import Data
from evo.dsl.yaml.writer import flow, number

FIXED = "fixed"
MOST_TOLD = 6
"""Places that are named where a word is none of the language's own but stands in what it says of itself."""


@dataclass(frozen=True)
class FieldEntry:
    """One field.

    type: in words, with its range. default: as YAML; None: it must be written. gene: the range and step of evolution,
    `fixed` where it leaves the field alone; None where the type says it all.
    """

    key: str
    type: str
    default: str | None
    gene: str | None
    meaning: str


@dataclass(frozen=True)
class KindEntry:
    """One mapping of the language. path: what `evo explain` calls it. written: how it begins in a document."""

    path: str
    written: str
    meaning: str
    fields: tuple[FieldEntry, ...]


@dataclass(frozen=True)
class RoleEntry:
    """One role: the kinds that may stand there, each with the first sentence of its meaning."""

    path: str
    kinds: tuple[tuple[str, str], ...]


Entry = FieldEntry | KindEntry | RoleEntry


def entry(path: str) -> tuple[Entry, ...]:
    """What a path names: a section (`train`), a role (`optimizer`), a kind (`attention`), or a field of either.

    A path goes on through fields: `train.optimizer.lr` is a field of the default optimizer, that of another is
    `train.optimizer.lion.lr`. A name that several roles have gives the entries of all of them.

    Raises:
        DiagnosticError: there is no such thing (EVO005).
    """
    first, *rest = path.split(".")
    found = [item for start in _starts(first) for item in _follow(start, rest)]
    if not found:
        message = f"no file and no part of the language is called '{path}'"
        raise DiagnosticError([Diagnostic("EVO005", message, None, _advice(path))])
    return tuple(found)


def _advice(path: str) -> str:
    """What may have been meant by a path that leads nowhere."""
    if owners := _owners(path):
        return f"it is a field of {', '.join(owners)}: write {owners[0]}.{path}"
    foreign = _foreign(path.lower())
    told = [name for name, text in _texts() if re.search(rf"\b{re.escape(path)}\b", text, re.IGNORECASE)]
    if told:
        return f"{foreign}the language speaks of it in {', '.join(told[:MOST_TOLD])}: ask for one of these"
    if foreign:
        return foreign.removesuffix("; ")
    field = path.partition(".")[0]
    if not any(_starts(field)) and (owners := _owners(field)):
        return f"{field} is a field of {', '.join(owners)}: ask for {owners[0]}.{field}"
    near = suggestion(path, paths())
    sections = ", ".join(filter(None, section_classes()))
    return f"{near}sections: {sections}; roles: {', '.join((*KINDS, *UNIONS))}; also kinds and fields"


def _foreign(word: str) -> str:
    """What stands for a value or a key of other tools, before more is said; nothing for any other word."""
    if word in VALUES:
        return f"{VALUES[word]}; "
    return f"in evo: {KEYS[word]}; " if word in KEYS else ""


def _owners(field: str) -> list[str]:
    """The sections and kinds that have a field of that name."""
    return [name for name, cls in classes().items() if field in spec_fields(cls)]


def _texts() -> Iterator[tuple[str, str]]:
    """What the language says of each kind and section, and of each field with the words that it takes, by path."""
    for name, cls in classes().items():
        yield name, summary(cls)
        for field in spec_fields(cls).values():
            told = _field_entry(cls, field)
            yield f"{name}.{told.key}", f"{told.meaning} {told.type}"


def paths() -> list[str]:
    """Every section, role, kind and field by the path that `entry` takes."""
    found: list[str] = [*KINDS, *UNIONS]
    for name, cls in classes().items():
        found += [name, *(f"{name}.{key}" for key in spec_fields(cls))]
    return found


def classes() -> dict[str, type[Spec]]:
    """Every section and kind by its shortest path that is its own, sections first, each with the mappings in it."""
    found = {path: cls for path, cls in section_classes().items() if path}
    names = [kind for role in KINDS for kind in kinds(role)]
    for role in KINDS:
        for kind in kinds(role):
            is_own = names.count(kind) == 1 and kind not in KINDS and kind not in found
            found |= with_nested(kind if is_own else f"{role}.{kind}", kind_class(role, kind))
    return found


def section_classes() -> dict[str, type[Spec]]:
    """The document and the mappings inside it that are always there, by path; its own is empty."""
    return with_nested("", Document)


def with_nested(path: str, cls: type[Spec]) -> dict[str, type[Spec]]:
    """A mapping and those that stand in its fields, by path."""
    found = {path: cls}
    for key, field in spec_fields(cls).items():
        if field.nested is not None:
            found |= with_nested(f"{path}.{key}" if path else key, field.nested)
    return found


def kind_entry(path: str, cls: type[Spec]) -> KindEntry:
    """A mapping with its fields."""
    fields = tuple(_field_entry(cls, field) for field in spec_fields(cls).values())
    written = "" if cls.kind is None else f"{{{cls.kind}: ...}}" if cls.is_keyed else f"{{kind: {cls.kind}}}"
    return KindEntry(path, written, summary(cls), fields)


def role_entry(role: str) -> RoleEntry:
    """A role with its kinds."""
    told = [(name, kind_class(role, name)) for name in (*tagged(role), *keyed(role))]
    return RoleEntry(role, tuple((name, first_sentence(summary(cls))) for name, cls in told))


@dataclass(frozen=True)
class _Place:
    """Where a path has come to."""

    path: str
    cls: type[Spec] | None = None
    role: str | None = None
    owner: type[Spec] | None = None
    field: SpecField | None = None


def _starts(first: str) -> Iterator[_Place]:
    """What the first step of a path may mean."""
    fields = spec_fields(Document)
    if first in fields:
        yield _into(Document, fields[first], "")
    if first in KINDS or first in UNIONS:
        yield _Place(first, role=first)
    for role in KINDS:
        if first in kinds(role):
            yield _Place(f"{role}.{first}", kind_class(role, first))


def _into(owner: type[Spec], field: SpecField, path: str) -> _Place:
    where = f"{path}.{field.key}" if path else field.key
    return _Place(where, field.nested, field.kind and field.kind.role, owner, field)


def _follow(place: _Place, steps: list[str]) -> Iterator[Entry]:
    if not steps:
        yield from _told(place)
        return
    step, *rest = steps
    if place.role is not None and step in kinds(place.role):
        yield from _follow(_Place(f"{place.path}.{step}", kind_class(place.role, step)), rest)
        return
    cls = place.cls or _default_class(place)
    if cls is not None and step in spec_fields(cls):
        yield from _follow(_into(cls, spec_fields(cls)[step], place.path), rest)


def _default_class(place: _Place) -> type[Spec] | None:
    """The class of what stands in a field that is left out, or of a role that has a default kind."""
    if place.role in DEFAULT_KIND:
        return kind_class(place.role, DEFAULT_KIND[place.role])
    default = place.field.kind.default if place.field is not None and place.field.kind is not None else None
    return None if default is None or place.role is None else kind_class(place.role, default)


def _told(place: _Place) -> Iterator[Entry]:
    if place.field is not None and place.owner is not None and place.cls is None:
        yield _field_entry(place.owner, place.field)
    if place.cls is not None:
        yield kind_entry(place.path, place.cls)
    if place.role is not None:
        yield role_entry(place.role)


def _field_entry(cls: type[Spec], field: SpecField) -> FieldEntry:
    schema = field_schema(cls, field)
    default = None if field.info.is_required() else flow(cast(Data, schema["default"]))
    meaning = " ".join(field_docs(cls).get(field.name, "").split())
    return FieldEntry(field.key, _type(schema), default, _gene(schema.get("x-gene")), meaning)


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if "$ref" in schema:
        role = str(schema["$ref"]).rpartition("/")[2]
        return role if role.endswith("s") else f"{'an' if role[0] in 'aeiou' else 'a'} {role}"
    if "const" in schema:
        return flow(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(flow, schema["enum"]))
    if schema.get("type") == "array":
        return f"a list of: {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return (
            f"a mapping from names to {_type(cast(dict[str, Any], inner))}" if isinstance(inner, dict) else "a mapping"
        )
    words = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "null"}
    return f"{words.get(str(schema.get('type')), 'a value')}{_range(schema)}"


def _range(schema: dict[str, Any]) -> str:
    said = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    told = [f"{words} {_number(schema[key])}" for key, words in said.items() if key in schema]
    return f", {', '.join(told)}" if told else ""


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else number(value)


def _gene(gene: Any) -> str | None:
    """What evolution may do with a field, of the schema's `x-gene`."""
    if not isinstance(gene, dict):
        return FIXED if gene is False else None
    return f"{gene['low']:g} to {gene['high']:g}, step {gene['step']}"
