"""What a ladder trains: every contestant at every size, at equal FLOPs, several seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from evo.compiler.compute import step_flops, steps_of, whole_steps
from evo.compiler.resolve import resolve
from evo.compiler.scale import Way, scaled
from evo.dsl.budget import FlopsBudget
from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document


@dataclass(frozen=True)
class Size:
    """One size of a ladder. parameters: that are asked for. flops: what each training at it may cost."""

    parameters: float
    flops: float


@dataclass(frozen=True)
class Contestant:
    """One document at one size.

    at: the place of the size on the ladder. document: canonical YAML. parameters: that it has. steps: of a training,
    the whole number nearest to the FLOPs of the size.
    """

    name: str
    at: int
    document: str
    parameters: int
    steps: int


@dataclass(frozen=True)
class LadderTraining:
    """One training of a contestant. seed: counted from the document's own."""

    contestant: Contestant
    seed: int

    @property
    def label(self) -> str:
        """What people call it."""
        own = self.contestant
        return f"{own.name}, {own.parameters:,} parameters, seed {self.seed}"

    def key(self, *around: str) -> str:
        """A name of all that its score depends on; around: what all trainings of a ladder have in common."""
        known = (self.contestant.document, self.contestant.steps, self.seed, *around)
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:24]


def ladder_sizes(variant: Document, parameters: Sequence[float], flops: float | None = None) -> tuple[Size, ...]:
    """The sizes of a ladder, smallest first.

    FLOPs grow with the square of the size, so that a parameter sees as many tokens at every size (Hoffmann et al.
    2022). flops: at the smallest size; by default as many tokens a parameter as the variant's own training has.
    """
    ordered = sorted(set(parameters))
    own = steps_of(variant) * step_flops(variant)
    first = flops or own * (ordered[0] / resolve(variant.organism).parameters) ** 2
    return tuple(Size(count, first * (count / ordered[0]) ** 2) for count in ordered)


def contestants(documents: dict[str, Document], sizes: Sequence[Size], way: Way) -> tuple[Contestant, ...]:
    """Every document at every size, in their order, size by size.

    Raises:
        CannotScaleError: one cannot have a size.
    """
    return tuple(
        _contestant(name, at, scaled(document, size.parameters, way), size.flops)
        for at, size in enumerate(sizes)
        for name, document in documents.items()
    )


def _contestant(name: str, at: int, document: Document, flops: float) -> Contestant:
    steps = whole_steps(FlopsBudget(flops=flops), document)
    return Contestant(name, at, to_yaml(document), resolve(document.organism).parameters, steps)
