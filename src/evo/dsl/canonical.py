"""The canonical form: defaults and dead genes omitted, keys in order, one spelling; and the hash over it."""

from __future__ import annotations

from typing import Any, cast

from evo.base.digest import digest_data
from evo.dsl.document import Document
from evo.dsl.index import DEFAULT_KIND
from evo.dsl.organism import OrganismSpec
from evo.dsl.references import named
from evo.dsl.spec import Spec, SpecField, spec_fields
from evo.dsl.tree import replaced
from evo.dsl.yaml import write


def to_data(spec: Spec, role: str | None = None) -> dict[str, Any]:
    """The canonical form of a spec as plain data; where it stands for a role, without the role's default kind."""
    spec = living(spec)
    is_told = spec.kind is not None and not spec.is_keyed and not (role and DEFAULT_KIND.get(role) == spec.kind)
    data: dict[str, Any] = {"kind": spec.kind} if is_told else {}
    for key, shape in spec_fields(type(spec)).items():
        value = getattr(spec, shape.name)
        if shape.info.is_required():
            data[key] = plain(value, shape)
        elif value != shape.default and (written := plain(value, shape)) != plain(shape.default, shape):
            data[key] = written
    return data


def to_yaml(document: Document) -> str:
    """The canonical text of a document: what `evo fmt` writes and what variants are stored as."""
    return write(to_data(document))


def content_hash(document: Document) -> str:
    """The identity of a candidate: a digest over what is built and how it is trained.

    The name and the search settings do not count: they change nothing about an evaluation.
    """
    data = to_data(document)
    return digest_data({key: data.get(key) for key in ("evo", "organism", "train")})


def plain(value: Any, shape: SpecField) -> Any:
    """The value of one field as plain data, in canonical form."""
    if isinstance(value, Spec):
        return to_data(value, shape.kind and shape.kind.role)
    if isinstance(value, tuple):
        items = [plain(item, shape) for item in cast(tuple[Any, ...], value)]
        return items[0] if shape.many and shape.many.bare and len(items) == 1 else items
    if isinstance(value, dict):
        table = cast(dict[str, Any], value)
        return {key: plain(table[key], shape) for key in sorted(table)}
    return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0


def living(spec: Spec) -> Spec:
    """The spec without pseudopods and layers that no stage names."""
    if not isinstance(spec, OrganismSpec) or not spec.parts:
        return spec
    used = set(named(spec.stages, spec.parts))
    tables = (("pseudopods", spec.pseudopods), ("layers", spec.layers))
    return replaced(spec, {(key,): {name: table[name] for name in table if name in used} for key, table in tables})
