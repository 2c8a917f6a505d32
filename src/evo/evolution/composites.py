"""Mixers that hold mixers, whatever their kind: what stands in one, and one made around another mixer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from evo.dsl.index import kind_class, kinds
from evo.dsl.spec import Spec, SpecField, spec_fields
from evo.evolution.sample import can_draw, draw_fields
from evo.evolution.sites import entries

Entry = str | Spec
"""An entry of `mix`: a mixer, or the name of one."""
ROLE = "mixer"


def inside(entry: Entry) -> tuple[Entry, ...]:
    """The mixers that stand directly in an entry; none in a name, or in a mixer that holds none."""
    return () if isinstance(entry, str) else tuple(place.value for place in entries(entry, ROLE))


def composites() -> list[str]:
    """The kinds of mixers that can be made around any mixer: they need some, by name or not, and nothing undrawable."""
    return [kind for kind in kinds(ROLE) if _fits_around(kind_class(ROLE, kind))]


def around(kind: str, present: Entry, draw: Callable[[], Entry | None], rng: np.random.Generator) -> Spec | None:
    """A composite of a kind with `present` first in it and drawn mixers beside it; None if nothing could be drawn."""
    cls = kind_class(ROLE, kind)
    values = draw_fields(cls, rng)
    mixers: list[Entry | None] = [present]
    for shape in _holders(cls):
        count = max(2, _least(shape)) if shape.many else 1
        mixers += [draw() for _ in range(count - len(mixers))]
        values[shape.name] = tuple(mixers) if shape.many else mixers[0]
        if None in mixers:
            return None
        mixers = []
    return cls.model_validate(values)


def _holders(cls: type[Spec]) -> Iterator[SpecField]:
    """The fields that must hold mixers."""
    fields = spec_fields(cls).values()
    return (f for f in fields if f.info.is_required() and f.kind and f.kind.role == ROLE and not f.table)


def _fits_around(cls: type[Spec]) -> bool:
    holders = list(_holders(cls))
    others = (field for field in spec_fields(cls).values() if field not in holders)
    return bool(holders) and all(f.names for f in holders) and all(can_draw(f, ROLE) for f in others)


def _least(shape: SpecField) -> int:
    """The fewest entries of a list."""
    return max(getattr(item, "min_length", None) or 0 for item in shape.info.metadata)
