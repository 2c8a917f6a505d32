"""Random documents, drawn from what the spec classes say about their own fields.

A new kind of block is covered the moment its class stands in the index.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from hypothesis import assume
from hypothesis import strategies as st

from evo.base.diagnostics import DiagnosticError
from evo.blocks.stages.layers.spec import BlocksSpec
from evo.compiler.check import problems
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, from_data
from evo.dsl.genes import Gene
from evo.dsl.index import keyed, kind_class, tagged
from evo.dsl.organism import Name, OrganismSpec
from evo.dsl.spec import Spec, SpecField, spec_fields

Data = dict[str, Any]
NAMES = ("near", "far", "wide")
WIDTHS = (32, 48, 64)
ONE_IN_THREE = st.integers(0, 2)
WRITTEN, DEEP = ("layer", "block"), 2
"""Roles that stand deep inside others: what they hold is drawn as short as it may be."""


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Documents that fit the schema; what they mean may be nonsense."""
    return from_data(draw(document_data())).document


@st.composite
def valid_documents(draw: st.DrawFn) -> Document:
    """Documents that can be built and trained."""
    document = from_data(draw(document_data(is_small=True))).document
    for _ in range(30):
        document = from_data(to_data(document)).document  # what nothing names has no place where it could be mended
        errors = [problem for problem in problems(document) if problem.severity == "error"]
        if not errors:
            return document
        document = _mended(document, errors[0].code, errors[0].path)
    assume(False)
    raise AssertionError


@st.composite
def document_data(draw: st.DrawFn, is_small: bool = False) -> Data:
    """Plain data of a document that fits the schema."""
    data = {"evo": 1, "organism": draw(_organism(is_small))}
    for key, (_, found) in _fields(Document, 0).items():
        if key not in data and draw(st.booleans()):
            data[key] = draw(found)
    return data


@st.composite
def specs(draw: st.DrawFn, cls: type[Spec], kind: str | None = None, depth: int = 0) -> Data:
    """Plain data of one spec class: required fields always, the others now and then."""
    data: Data = {} if kind is None else {"kind": kind}
    for key, (is_required, found) in _fields(cls, depth).items():
        if is_required or draw(ONE_IN_THREE) == 0:
            data[key] = draw(found)
    return data


@cache
def _fields(cls: type[Spec], depth: int) -> dict[str, tuple[bool, st.SearchStrategy[Any]]]:
    """Of each field, whether it is required, and its values. Making strategies takes longer than drawing from them."""
    return {key: (shape.info.is_required(), values(shape, depth)) for key, shape in spec_fields(cls).items()}


def values(shape: SpecField, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that the field takes."""
    one = _one(shape, depth)
    if shape.table:
        return st.dictionaries(st.sampled_from(NAMES), one, max_size=2)
    if shape.many is not None:
        is_optional = not shape.info.is_required() and shape.default is None  # what is left out is not written empty
        least = _meta(shape, "min_length", 1 if is_optional else 0)
        most = min(least + (2 if depth < DEEP else 0), _meta(shape, "max_length", least + 2))
        return st.lists(one, min_size=least, max_size=most)
    if not shape.info.is_required() and shape.default is None:
        return st.none() | one
    return one


@cache
def roles(role: str, depth: int = 0) -> st.SearchStrategy[Data]:
    """Specs of a role: any of its kinds, and composites near the surface."""
    plain = [kind for kind in tagged(role) if not _holds(kind_class(role, kind), role)]
    choices = [specs(kind_class(role, kind), kind, depth) for kind in plain]
    if depth < DEEP:
        choices += [specs(kind_class(role, kind), kind, depth + 1) for kind in tagged(role) if kind not in plain]
        choices += [specs(kind_class(role, key), None, depth + 1) for key in keyed(role)]
    return st.one_of(choices)


def _holds(cls: type[Spec], role: str) -> bool:
    """Whether it holds another of its own role."""
    return any(shape.kind is not None and shape.kind.role == role for shape in spec_fields(cls).values())


def _one(shape: SpecField, depth: int) -> st.SearchStrategy[Any]:
    if shape.kind is not None:
        found = roles(shape.kind.role, DEEP if shape.kind.role in WRITTEN else depth)
        if shape.words:
            found = st.sampled_from(shape.words) | found
        return found | st.sampled_from(NAMES) if shape.names else found
    if shape.nested is not None:
        return specs(shape.nested, None, depth)
    if get_origin(shape.info.annotation) is tuple and shape.many is None:
        least = _meta(shape, "min_length", 0)
        return st.lists(_element(get_args(shape.info.annotation)[0]), min_size=least, max_size=least + 2)
    members = [member for member in get_args(shape.info.annotation) if member is not type(None)]
    annotation = members[0] if members and get_origin(shape.info.annotation) is not Literal else shape.info.annotation
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    return _scalar(annotation, shape)


def _element(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a list of numbers or of words."""
    plain, *notes = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if get_origin(plain) is Literal:
        return st.sampled_from(get_args(plain))
    least = max([1, *(item.ge for note in notes for item in getattr(note, "metadata", ()) if hasattr(item, "ge"))])
    return st.integers(least, 8) if plain is int else st.floats(0.5, 8)


def _scalar(annotation: Any, shape: SpecField) -> st.SearchStrategy[Any]:
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        low, high = _range(shape, 0, 2**40)
        every = _meta(shape, "multiple_of", 1)
        return st.integers(math.ceil(low / every), math.floor(high / every)).map(lambda count: count * every)
    if annotation is float:
        low, high = _range(shape, 0.0, 1e6)
        return st.floats(low, high, allow_nan=False, exclude_min=_meta(shape, "gt", None) == low, exclude_max=True)
    if shape.many is not None or _meta(shape, "max_length", 0) == 64 or annotation == Name:
        return st.sampled_from(NAMES)
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def _range(shape: SpecField, low: float, high: float) -> tuple[float, float]:
    gene = shape.meta(Gene)
    if isinstance(gene, Gene):
        low, high = gene.low, gene.high
    low = max(low, _meta(shape, "ge", low), _meta(shape, "gt", low))
    return low, min(high, _meta(shape, "le", high), _meta(shape, "lt", high + 1) - (shape.info.annotation is int))


def _meta(shape: SpecField, name: str, otherwise: Any) -> Any:
    found = [getattr(item, name) for item in shape.info.metadata if getattr(item, name, None) is not None]
    return found[0] if found else otherwise


@st.composite
def _organism(draw: st.DrawFn, is_small: bool) -> Data:
    data = draw(specs(OrganismSpec))
    count = draw(st.integers(1, 3))
    names = draw(st.permutations(["lower", "middle", "upper"]))[:count]
    data["stages"] = [draw(_stage(name, names[:index])) for index, name in enumerate(names)]
    if is_small:
        sizes = {"width": draw(st.sampled_from(WIDTHS)), "context": draw(st.sampled_from((16, 33))), "vocab": 256}
        data.update(sizes)
    return data


@st.composite
def _stage(draw: st.DrawFn, name: str, earlier: list[str]) -> Data:
    data = draw(specs(BlocksSpec))
    data.pop("from", None)
    if draw(st.booleans()):
        data["from"] = draw(st.lists(st.sampled_from(["embedding", *earlier]), min_size=1, max_size=3, unique=True))
    return {**data, "name": name, "repeat": draw(st.integers(1, 3))}


def _is_a_mixer(holder: Any, key: str | int, path: tuple[str | int, ...]) -> bool:
    """Whether what stands at a key, the nearest to a path, is one mixer that must be there."""
    is_alone = key == "mix" or (key in keyed("mixer") and not isinstance(holder[key], list))
    return is_alone or (isinstance(key, int) and _is_composite(path))


def _mended(document: Document, code: str, path: tuple[str | int, ...]) -> Document:
    """The document without one fault: changed where the fault is, or, if that no longer fits the schema, around it."""
    for end in range(len(path), 0, -1):
        data = to_data(document)
        _mend(data, code, path[:end])
        if is_document(data):
            return from_data(data).document
    assume(False)
    raise AssertionError


def _mend(data: Data, code: str, path: tuple[str | int, ...]) -> None:
    """Change a document so that one fault goes: leave the key out, or put what always fits in its place."""
    holder, key = _nearest(data, path)
    if code == "EVO341" and "task" in data.get("train", {}):
        del data["train"]["task"]
    elif code == "EVO332":
        del holder[key:]
    elif "exits" in path:  # which name a stage at least
        del data["organism"]["readout"]["exits"]
    elif path[-2:-1] == ("stages",) and len(holder) == 1:
        holder[key] = {"name": "only", "mix": {"kind": "convolution"}}
    elif "layers" in path[:-1] and "sublayers" not in path:
        holder[key] = {"sublayers": [{"block": {"kind": "convolution"}}]}
    elif code in ("EVO320", "EVO311", "EVO322") or _is_a_mixer(holder, key, path):
        holder[key] = {"kind": "convolution"}
    elif key == "source":  # a cross attention has nothing to read
        holder.clear()
        holder["kind"] = "convolution"
    elif key == "heads":
        holder.update({name: value for name, value in (("heads", 1), ("kv_heads", 1)) if name in holder})
        holder.pop("position", None)
    else:
        del holder[key]


def _is_composite(path: tuple[str | int, ...]) -> bool:
    """Whether a place is, or is inside, a member of a composite, which needs all that it has."""
    return any(step in keyed("mixer") for step in path)


def _nearest(data: Any, path: tuple[str | int, ...]) -> tuple[Any, Any]:
    """The container and the key of what stands at a path, or of its nearest ancestor; bare lists have no index."""
    holder, key = data, path[0]
    for step in path[1:]:
        inner = holder[key]
        if isinstance(inner, list if isinstance(step, int) else dict) and (isinstance(step, int) or step in inner):
            holder, key = inner, step
    return holder, key


def is_document(data: Any) -> bool:
    """Whether plain data fits the schema of documents."""
    try:
        from_data(data)
    except DiagnosticError:
        return False
    return True
