"""The genome: the places of a spec's tree that evolution may change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from evo.dsl.genes import Fixed
from evo.dsl.spec import Spec, SpecField
from evo.dsl.tree import Place, places, walk


def sites(spec: Spec) -> Iterator[Place]:
    """Every evolvable field of a spec and of those inside it that is read, parents before children."""
    return (place for place in walk(spec, within=is_evolvable) if place.field.name not in place.owner.unread)


def is_evolvable(field: SpecField) -> bool:
    """Whether evolution may move the field, and what is below it."""
    return field.meta(Fixed) is None


def entries(spec: Spec, role: str) -> list[Place]:
    """Where specs of a role, or their names, stand in a spec's own evolvable fields: each alone, and none deeper."""
    own = (place for place in places(spec, within=is_evolvable) if place.role == role)
    single = ((place, path, item) for place in own for path, item in place.entries())
    return [replace(place, path=path, value=item) for place, path, item in single if item is not None]
