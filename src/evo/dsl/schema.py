"""JSON Schema (draft 2020-12) of the language, made from the spec classes: for editors and other programs."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from evo.dsl.canonical import plain
from evo.dsl.compose.composed import DEFINE, EXTENDS
from evo.dsl.compose.merge import USE
from evo.dsl.describe import field_docs, first_sentence, summary
from evo.dsl.document import LANGUAGE, Document
from evo.dsl.genes import Fixed, Gene
from evo.dsl.index import DEFAULT_KIND, KINDS, UNIONS, keyed, kind_class, members, tagged
from evo.dsl.organism import NAME
from evo.dsl.patch import PATCH_VERSION
from evo.dsl.snippets import snippets
from evo.dsl.spec import Spec, SpecField, spec_fields

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


def organism_schema() -> Json:
    """The schema of a document: every kind of every role, with prose, defaults, bounds and genes."""
    definitions: Json = {}
    for role in KINDS:
        definitions[role] = _role(role)
        for kind in tagged(role):
            definitions[f"{role}.{kind}"] = _spec(kind_class(role, kind), kind, role not in DEFAULT_KIND)
        for key in keyed(role):
            definitions[f"{role}.{key}"] = _spec(kind_class(role, key), None)
    for role in UNIONS:
        definitions[role] = {"anyOf": [_ref(member) for member in members(role)]}
    definitions["use"] = _USE
    whole = _spec(Document, None)
    whole["properties"]["evo"] = {**whole["properties"]["evo"], "const": LANGUAGE}
    whole["properties"][DEFINE] = _DEFINE
    definitions["document"], definitions["extending"] = whole, _extending(whole)
    return {
        "$schema": DRAFT,
        "title": f"evo organism, language version {LANGUAGE}",
        "description": whole["description"],
        "if": {"required": [EXTENDS]},
        "then": _ref("extending"),
        "else": _ref("document"),
        "$defs": definitions,
    }


_USE: Json = {
    "type": "object",
    "description": "What stands in the table `define` under a name, with changes beside it.",
    "properties": {USE: {"type": "string", "description": "A name of the table `define`."}},
    "required": [USE],
}
_DEFINE: Json = {"type": "object", "description": "Values with a name, each of which `{use: NAME}` stands for."}


def _extending(whole: Json) -> Json:
    """The schema of a document that extends another: any part of one."""
    parts: Json = {
        key: {"description": value.get("description", "")} if "properties" in value else value
        for key, value in whole["properties"].items()
    }
    path = {"type": "string", "description": "The document that this one changes, by a path that starts beside it."}
    description = "A document that says what it changes of another one."
    parts = {EXTENDS: path, **parts}
    return {"type": "object", "description": description, "properties": parts, "additionalProperties": False}


def patch_schema() -> Json:
    """The schema of a serialised patch."""
    anything: Json = {"type": ["string", "number", "boolean", "null", "array", "object"]}
    edit: Json = {
        "type": "object",
        "description": "One change. A value that is left out stands for a key or an entry that is not written.",
        "properties": {
            "path": {"type": "string", "minLength": 1, "description": "Keys, indices and names, joined by dots."},
            "old": {**anything, "description": "What was there."},
            "new": {**anything, "description": "What comes there."},
            "at": {"type": "integer", "minimum": 0, "description": "The index of a named entry that comes or leaves."},
        },
        "required": ["path"],
        "anyOf": [{"required": ["old"]}, {"required": ["new"]}],
        "additionalProperties": False,
    }
    return {
        "$schema": DRAFT,
        "title": f"evo patch, version {PATCH_VERSION}",
        "description": "Edits in the order they apply, as `evo diff --patch` writes and `evo apply` reads them.",
        "type": "object",
        "properties": {"evo_patch": {"const": PATCH_VERSION}, "edits": {"type": "array", "items": edit}},
        "required": ["evo_patch", "edits"],
        "additionalProperties": False,
    }


SCHEMAS = {"organism.schema.json": organism_schema, "patch.schema.json": patch_schema}
"""The files of `dsl_schemas/`: one a document kind, for the newest language version."""


def _role(role: str) -> Json:
    """Any spec of a role: told apart by `kind`, or by the one key of its name."""
    found: Json = {"anyOf": [*(_ref(f"{role}.{kind}") for kind in (*tagged(role), *keyed(role))), _ref("use")]}
    if tagged(role):  # of a wrong word an editor says which are right, and no more
        kind = {"enum": tagged(role), "description": f"Which {role} it is."}
        found = {"if": {"type": "object"}, "then": {"properties": {"kind": kind}}, **found}
    return {**found, "defaultSnippets": snippets(role)}


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _spec(cls: type[Spec], kind: str | None, is_kind_required: bool = True) -> Json:
    properties: Json = {} if kind is None else {"kind": {"const": kind, "description": first_sentence(summary(cls))}}
    required = ["kind"] if kind is not None and is_kind_required else []
    for key, shape in spec_fields(cls).items():
        properties[key] = field_schema(cls, shape)
        if shape.info.is_required():
            required.append(key)
    found: Json = {"type": "object", "description": summary(cls), "properties": properties}
    return {**found, "required": required, "additionalProperties": False}


def field_schema(cls: type[Spec], shape: SpecField) -> Json:
    """The schema of one field of a class: its prose, type, range, default, and what evolution may do with it."""
    doc = field_docs(cls).get(shape.name, "")
    schema: Json = {"description": doc} if doc else {}
    schema |= _value(shape, _scalars(cls)[shape.name])
    if not shape.info.is_required():
        schema["default"] = plain(shape.default, shape)
    gene = shape.meta(Gene)
    if isinstance(gene, Gene):
        schema["x-gene"] = {"low": gene.low, "high": gene.high, "step": gene.step}
    elif shape.meta(Fixed) is not None:
        schema["x-gene"] = False
    return schema


@cache
def _scalars(cls: type[Spec]) -> Json:
    """Pydantic's view of the fields of a class."""
    return cls.model_json_schema()["properties"]


def _value(shape: SpecField, scalar: Json) -> Json:
    """What may stand under a key. `scalar` is pydantic's view, which knows the bounds of plain values."""
    scalar = _untitled(scalar)
    if shape.many:
        return _list(shape, scalar)
    if shape.table:
        names: Json = {"pattern": NAME, "maxLength": 64}
        return {"type": "object", "additionalProperties": _one(shape, {}), "propertyNames": names}
    return _one(shape, scalar)


def _one(shape: SpecField, scalar: Json) -> Json:
    if shape.nested is not None:
        return _spec(shape.nested, None)
    if shape.kind is None:
        return scalar
    options = [_ref(shape.kind.role)]
    if shape.numbers:
        options.append({"type": "number"})
    if shape.words:
        options.append({"enum": list(shape.words)})
    if shape.names:
        options.append({"type": "string", "pattern": NAME, "maxLength": 64})
    if shape.takes_null:
        options.append({"type": "null"})
    return {"anyOf": options} if len(options) > 1 else options[0]


def _list(shape: SpecField, scalar: Json) -> Json:
    branches = scalar.get("anyOf", [scalar])
    array = next(branch for branch in branches if branch.get("type") == "array")
    item = _one(shape, array["items"])
    bounds = {
        name: bound
        for name, key in (("minItems", "min_length"), ("maxItems", "max_length"))
        for bound in (getattr(meta, key, None) for meta in shape.info.metadata)
        if bound is not None
    }
    options: list[Json] = [{"type": "array", "items": item, **bounds}]
    if shape.many and shape.many.bare:
        options.insert(0, item)
    options += [branch for branch in branches if branch.get("type") == "null"]
    return {"anyOf": options} if len(options) > 1 else options[0]


def _untitled(schema: Any) -> Any:
    """Without pydantic's titles and its own defaults, which repeat the key and miss the factories."""
    if isinstance(schema, dict):
        keys = cast(dict[str, Any], schema)
        return {key: _untitled(value) for key, value in keys.items() if key not in ("title", "default")}
    return [_untitled(item) for item in cast(list[Any], schema)] if isinstance(schema, list) else schema
