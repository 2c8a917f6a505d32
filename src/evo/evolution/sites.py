"""The genome: the places of a spec's tree that evolution may change."""

from __future__ import annotations

from collections.abc import Iterator

from evo.dsl.genes import Fixed
from evo.dsl.spec import FieldShape, Spec
from evo.dsl.tree import Place, walk


def sites(spec: Spec) -> Iterator[Place]:
    """Every evolvable field of a spec and of those inside it, parents before children."""
    return walk(spec, within=is_evolvable)


def is_evolvable(field: FieldShape) -> bool:
    """Whether evolution may move the field, and what is below it."""
    return field.meta(Fixed) is None
