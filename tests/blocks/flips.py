"""Every change of one field of an organism, and what each does to the built network.

A flip is dead if the language accepts it without a word and the network it builds computes and learns the same.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

import torch

from evo.base.diagnostics import DiagnosticError
from evo.compiler.build import build, initial_weight
from evo.compiler.check import checked
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve, sources
from evo.dsl.canonical import to_data
from evo.dsl.document import Document, from_data
from evo.dsl.genes import Gene
from evo.dsl.index import is_kind, kind_class, kinds
from evo.dsl.organism import StageSpec
from evo.dsl.plan import Weight
from evo.dsl.spec import Spec, SpecField
from evo.dsl.tree import Place, replaced, walk
from evo.evolution.sample import choices, is_integer

TIME = 20
REQUIRED: dict[str, Any] = {"heads": 4, "factor": 2.0, "size": 5}
"""Values for fields without a default, when a flip makes a spec of another kind."""

TELLING: dict[str, dict[str, Any]] = {"scaled": {"scale": 0.5}}
"""The same for kinds that by default change nothing in a first layer."""


@dataclass(frozen=True)
class Flip:
    """One field changed: `owner.field`, the new value in words, and the changed document or what refused it."""

    owner: str
    field: str
    value: str
    document: Document | None

    def __str__(self) -> str:
        return f"{self.owner}.{self.field} -> {self.value}"


def flips(document: Document, below: str = "", wanted: Set[tuple[str, str]] | None = None) -> Iterator[Flip]:
    """Every flip of every field below `organism`, or of those at or under keys of a name; of the kinds that a field may
    hold a quarter, drawn by what holds the field: over all hosts, every kind is tried.

    wanted: (owner, field) of the only ones that are flipped, with all kinds; it may shrink meanwhile.
    """
    for place in walk(document.organism, ("organism",)):
        owner, field = type(place.owner).__name__, place.field.key
        if (below and below not in place.path) or (wanted is not None and (owner, field) not in wanted):
            continue
        for new in alternatives(place, document):
            if wanted is not None and (owner, field) not in wanted:
                break
            if wanted is not None or not _is_left_out(new, place):
                yield Flip(owner, field, describe(new), _attempt(document, place, new))


def _is_left_out(new: Any, place: Place) -> bool:
    made = [item for item in (new if isinstance(new, tuple) else (new,)) if isinstance(item, Spec)]
    is_kind_in_place = place.field.kind is not None and bool(made) and new != place.value
    return is_kind_in_place and zlib.crc32(f"{describe(new)} {place.owner!r}".encode()) % 4 != 0


def _attempt(document: Document, place: Place, new: Any) -> Document | None:
    try:
        return from_data(to_data(replaced(document, {place.path: new}))).document
    except DiagnosticError:
        return None


def alternatives(place: Place, document: Document) -> list[Any]:
    """Other values of a field that mean something else: not its own, and not what leaving it out stands for."""
    aliases = [place.value, *_words(place), *(_stands_for(place, document) if place.value is None else ())]
    found = _alternatives(place, document)
    return [new for new in found if not any(new == old and type(new) is type(old) for old in aliases)]


def _words(place: Place) -> Iterator[Any]:
    """What a word is short for."""
    if place.field.kind and place.value in place.field.words and is_kind(place.field.kind.role, place.value):
        yield kind_class(place.field.kind.role, place.value)()


def _stands_for(place: Place, document: Document) -> Iterator[Any]:
    """What an override that is left out takes from the organism."""
    organism, key = document.organism, place.field.key
    if key in ("norm", "position"):
        yield getattr(organism, key)
    if key == "k_norm":
        norm: Any = vars(place.owner)["qk_norm"]
        yield norm if isinstance(norm, Spec) or not is_kind("norm", norm) else kind_class("norm", norm)()
    if key == "scale":
        yield 1.0
    if key == "groups":
        yield 1  # of the stream
    if key == "from":
        yield sources(organism, int(place.path[2]))
    if key in ("kv_heads", "key_heads"):
        yield place.owner.model_dump(include={"heads"})["heads"]


def _alternatives(place: Place, document: Document) -> Iterator[Any]:
    shape, value = place.field, place.value
    if shape.table or shape.name in place.owner.unread:
        return
    if not shape.info.is_required() and shape.default is None and value is not None:
        yield None
    if isinstance(value, tuple):
        yield from _lists(shape, value)
    elif shape.kind:
        yield from shape.words
        yield from _kinds(shape.kind.role)
    elif shape.nested is None:
        yield from _scalars(shape, value, document)


def _lists(shape: SpecField, value: tuple[Any, ...]) -> Iterator[Any]:
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
        needed = [name for name, info in cls.model_fields.items() if info.is_required()]
        if set(needed) <= set(REQUIRED):
            yield cls.model_validate({**{name: REQUIRED[name] for name in needed}, **TELLING.get(kind, {})})


def _scalars(shape: SpecField, value: Any, document: Document) -> Iterator[Any]:
    yield from choices(shape.info)
    if choices(shape.info):
        return
    if shape.key == "from":
        names = [stage.name for stage in document.organism.stages if isinstance(stage, StageSpec)]
        yield from (("embedding",), *((name,) for name in names), ("embedding", names[0]))
    elif isinstance(value, str):
        yield f"{value}_x"
    elif value is None:
        yield from (int(new) if is_integer(shape.info) else float(new) for new in (1, 2, 3, 6, 100))
    elif is_integer(shape.info):
        yield from (value * 2, value // 2, *((value + 1, value - 1) if shape.meta(Gene) else ()))
    else:
        yield from (value * 2, value / 2, value * 10)


def describe(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Spec):
        return f"{value.kind or type(value).__name__}"
    return f"[{', '.join(map(describe, value))}]" if isinstance(value, tuple) else repr(value)


@functools.lru_cache(maxsize=4096)
def _initial(path: str, weight: Weight) -> torch.Tensor:
    """An initial weight: most are those of the network before."""
    return initial_weight(path, weight, seed=0)


class Behaviour:
    """What a document's network computes on fixed bytes, and computes after one step of gradient descent; float64.

    plan: the document's.
    """

    def __init__(self, document: Document, plan: Plan) -> None:
        weights = {path: _initial(path, weight) for path, weight in plan.weights.items()}
        self.model = build(plan, 0, weights=weights).double()
        context = min(TIME, document.organism.context)
        self.tokens_BT = torch.randint(0, 128, (1, context + 1), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():  # all that most of them are asked for
            self.loss = self._loss()

    def _loss(self) -> torch.Tensor:
        return self.model.loss(self.tokens_BT[:, :-1], self.tokens_BT[:, 1:])

    def _logits(self) -> torch.Tensor:
        with torch.no_grad():
            return self.model(self.tokens_BT[:, :-1])

    @functools.cached_property
    def passes(self) -> tuple[torch.Tensor, ...]:
        """Logits before and after the step, (1, T, V), and what training minimises after it."""
        before = self._logits()
        self._loss().backward()
        with torch.no_grad():
            for parameter in self.model.parameters():
                assert (parameter.grad is not None) == parameter.requires_grad
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
        return before, self._logits(), self._loss().detach()

    def equals(self, other: Behaviour) -> bool:
        """Whether both minimise the same, compute the same and learn the same; most that differ do in the first."""
        return _close(self.loss, other.loss) and all(map(_close, self.passes, other.passes))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-10, atol=1e-12)


class Judge:
    """Compares the flips of one document with it."""

    def __init__(self, document: Document) -> None:
        faults, plan = checked(document)
        self.spoken = set(faults)
        self.base = Behaviour(document, plan or resolve(document.organism))

    def builds_another(self, flip: Flip, *, if_silent: bool) -> bool | None:
        """Whether a flip builds a network that behaves otherwise; None where it is refused, or only warned of
        `if_silent`."""
        if flip.document is None:
            return None
        faults, plan = checked(flip.document)
        new = set(faults) - self.spoken
        if any(if_silent or fault.severity == "error" for fault in new):
            return None
        return not self.base.equals(Behaviour(flip.document, plan or resolve(flip.document.organism)))


def dead_flips(document: Document, below: str = "") -> list[Flip]:
    """Of every flip of a document, or those at or under keys of a name, the dead ones."""
    judge = Judge(document)
    return [flip for flip in flips(document, below) if judge.builds_another(flip, if_silent=True) is False]


def without_effect(documents: Iterable[Document], wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the wanted (owner, field) of which no flip in any document builds another network."""
    left = set(wanted)
    for document in documents:
        judge = Judge(document)
        for flip in flips(document, wanted=left):
            if judge.builds_another(flip, if_silent=False):
                left.remove((flip.owner, flip.field))
    return left
