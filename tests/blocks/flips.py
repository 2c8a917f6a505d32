"""Every change of one field of an organism, and what each does to the built network.

A flip is dead if the language accepts it without a word and the network it builds computes and learns the same.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import ValidationError

from evo.compiler.build import build
from evo.compiler.check import problems
from evo.compiler.resolve import resolve, sources
from evo.dsl.document import Document
from evo.dsl.genes import Gene
from evo.dsl.index import kind_class, kinds
from evo.dsl.organism import StageSpec
from evo.dsl.spec import FieldShape, Problem, Spec, shapes

TIME = 20
REQUIRED: dict[str, Any] = {"heads": 4, "factor": 2.0, "size": 5}
"""Values for fields without a default, when a flip makes a spec of another kind."""


@dataclass(frozen=True)
class Flip:
    """One field changed: `owner.field`, the new value in words, and the changed document or what refused it."""

    owner: str
    field: str
    value: str
    document: Document | None

    def __str__(self) -> str:
        return f"{self.owner}.{self.field} -> {self.value}"


Rebuild = Callable[[Any], Document]
"""From a new value of some part of a document to the whole."""


def flips(document: Document) -> Iterator[Flip]:
    """Every flip of every field below `organism`."""
    yield from _inside(document.organism, lambda new: _with(document, "organism", new), document)


def _inside(spec: Spec, rebuild: Rebuild, document: Document) -> Iterator[Flip]:
    for shape in shapes(type(spec)).values():
        value = getattr(spec, shape.name)

        def replace(new: Any, name: str = shape.name) -> Document:
            return rebuild(_with(spec, name, new))

        for new in alternatives(shape, spec, document):
            yield Flip(type(spec).__name__, shape.key, describe(new), _attempt(replace, new))
        yield from _children(value, replace, document)


def _children(value: Any, replace: Rebuild, document: Document) -> Iterator[Flip]:
    if isinstance(value, Spec):
        yield from _inside(value, replace, document)
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            if isinstance(item, Spec):
                yield from _inside(item, lambda new, i=i: replace((*value[:i], new, *value[i + 1 :])), document)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(item, lambda new, key=key: replace({**value, key: new}), document)


def _attempt(replace: Rebuild, new: Any) -> Document | None:
    try:
        return replace(new)
    except ValidationError:
        return None


def _with(spec: Any, name: str, value: Any) -> Any:
    """The spec with one field changed, or left out where that is what null means; validated as a whole."""
    fields = {**{field: getattr(spec, field) for field in spec.model_fields_set}, name: value}
    return type(spec).model_validate({field: new for field, new in fields.items() if new is not None})


def alternatives(shape: FieldShape, owner: Spec, document: Document) -> list[Any]:
    """Other values of a field that mean something else: not its own, and not what leaving it out stands for."""
    value = getattr(owner, shape.name)
    aliases = [value, *(_stands_for(shape, owner, document) if value is None else ())]
    found = list(_alternatives(shape, value, document))
    return [new for new in found if not any(new == old and type(new) is type(old) for old in aliases)]


def _stands_for(shape: FieldShape, owner: Spec, document: Document) -> Iterator[Any]:
    """What an override that is left out takes from the organism."""
    organism = document.organism
    if shape.name in ("norm", "position"):
        yield getattr(organism, shape.name)
    if shape.name == "from_":
        yield sources(organism, next(i for i, stage in enumerate(organism.stages) if stage is owner))
    if shape.name == "kv_heads":
        yield owner.model_dump(include={"heads"})["heads"]


def _alternatives(shape: FieldShape, value: Any, document: Document) -> Iterator[Any]:
    if shape.table:
        return
    if not shape.info.is_required() and shape.default is None and value is not None:
        yield None
    if isinstance(value, tuple):
        yield from _lists(shape, value)
    elif shape.kind:
        yield from _kinds(shape.kind.role)
    elif shape.nested is None:
        yield from _scalars(shape, value, document)


def _lists(shape: FieldShape, value: tuple[Any, ...]) -> Iterator[Any]:
    yield value[:-1]
    if shape.kind is None:
        return
    yield value[::-1]
    if shape.kind.role != "stage":
        for new in _kinds(shape.kind.role):
            yield (new, *value[1:])
            if new != value[-1]:
                yield (*value, new)


def _kinds(role: str) -> Iterator[Spec]:
    for kind in kinds(role):
        cls = kind_class(role, kind)
        needed = {
            name: REQUIRED[name] for name, info in cls.model_fields.items() if info.is_required() and name in REQUIRED
        }
        if all(name in needed for name, info in cls.model_fields.items() if info.is_required()):
            yield cls.model_validate(needed)


def _scalars(shape: FieldShape, value: Any, document: Document) -> Iterator[Any]:
    types = _types(shape.info.annotation)
    for kind in types:
        if typing.get_origin(kind) is Literal:
            yield from typing.get_args(kind)
    if bool in types:
        yield not value
    elif value is None and shape.name == "from_":
        names = [stage.name for stage in document.organism.stages if isinstance(stage, StageSpec)]
        yield from (("embedding",), *((name,) for name in names), ("embedding", names[0]))
    elif value is None:
        number = float if float in types else int
        yield from (number(new) for new in (1, 2, 3, 6, 100))
    elif int in types:
        yield from (value * 2, value // 2, *((value + 1, value - 1) if shape.meta(Gene) else ()))
    elif float in types:
        yield from (value * 2, value / 2, value * 10)
    elif str in types:
        yield f"{value}_x"


def _types(annotation: Any) -> list[Any]:
    """The types of a union, through Annotated."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _types(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is Literal or not typing.get_args(annotation):
        return [annotation]
    return [kind for argument in typing.get_args(annotation) for kind in _types(argument)]


def describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Spec):
        return f"{value.kind or type(value).__name__}"
    return f"[{', '.join(map(describe, value))}]" if isinstance(value, tuple) else repr(value)


class Behaviour:
    """What a document's network computes on fixed bytes, and computes after one step of gradient descent; float64."""

    def __init__(self, document: Document) -> None:
        self.model = build(resolve(document.organism), seed=0).double()
        context = min(TIME, document.organism.context)
        self.tokens_BT = torch.randint(0, 128, (1, context + 1), generator=torch.Generator().manual_seed(0))
        self.before = self.model(self.tokens_BT[:, :-1])

    @functools.cached_property
    def after(self) -> torch.Tensor:
        """Logits after the step, (1, T, V)."""
        F.cross_entropy(self.before.flatten(0, 1), self.tokens_BT[:, 1:].flatten()).backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad)
            return self.model(self.tokens_BT[:, :-1])

    def equals(self, other: Behaviour) -> bool:
        """Whether both compute the same and learn the same."""
        return _close(self.before, other.before) and _close(self.after, other.after)


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@dataclass(frozen=True)
class Verdicts:
    """The flips of one document that changed the network, that were spoken against, and that did neither."""

    changed: tuple[Flip, ...]
    refused: tuple[Flip, ...]
    dead: tuple[Flip, ...]


def judge(document: Document) -> Verdicts:
    """Try every flip of a document."""
    spoken = set(problems(document))
    base = Behaviour(document)
    found: dict[str, list[Flip]] = {"changed": [], "refused": [], "dead": []}
    for flip in flips(document):
        found[_fate(flip, spoken, base)].append(flip)
    return Verdicts(**{fate: tuple(rows) for fate, rows in found.items()})


def _fate(flip: Flip, spoken: set[Problem], base: Behaviour) -> str:
    if flip.document is None or set(problems(flip.document)) - spoken:
        return "refused"
    return "dead" if base.equals(Behaviour(flip.document)) else "changed"
