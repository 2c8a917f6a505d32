"""Small organisms made large: the same shape at another number of parameters. Torch-free."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from evo.compiler.check import problems
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.genes import Widening
from evo.dsl.rates import MaximalUpdateRates
from evo.dsl.tree import Path, replaced, walk

MOST_WIDTH = 32_768
ALIGNED = 8
"""What widths are whole multiples of."""
RATIOS = [step / 10 for step in range(5, 21)]
"""How much the depth grows as a multiple of what the width grows, tried around 1."""


class CannotScaleError(Exception):
    """No valid organism of the same shape is near the size that is asked for."""


def scaled(document: Document, parameters: float) -> Document:
    """A document whose organism has about so many parameters, in the shape of the given one.

    Widths grow and shrink together, so that heads keep theirs: everything that is marked as `Widening` goes by the
    width of the stream, and stays whole. Stages are stretched in place, their lists cycling on, by about as much as
    the width (aspect kept, Kaplan et al. 2020); those that cannot be longer keep their depth. None gets shallower.
    Rates follow the width by `train.rates`, muP's if there are none, based on the width that they were found at.

    Raises:
        CannotScaleError: nothing valid comes within a third of it.
    """
    best: tuple[float, Document] | None = None
    for candidate in _candidates(document, parameters):
        miss = abs(math.log(resolve(candidate.organism).parameters / parameters))
        if (best is None or miss < best[0]) and not any(fault.severity == "error" for fault in problems(candidate)):
            best = miss, candidate
    if best is None or best[0] > math.log(4 / 3):
        raise CannotScaleError(f"no organism of this shape has about {parameters:,.0f} parameters")
    return best[1]


def _candidates(document: Document, parameters: float) -> Iterator[Document]:
    """Documents around the size: for each depth, the widths on both sides of it."""
    growths = list(_growths(document))
    for ratio in RATIOS:

        def size(growth: float, ratio: float = ratio) -> int:
            return resolve(_sized(document, growth, max(1.0, growth * ratio)).organism).parameters

        reach = 1  # doubled until it is beyond the size: plans of huge organisms take long
        while reach < len(growths) and size(growths[reach - 1]) < parameters:
            reach *= 2
        above = bisect_left(growths[:reach], parameters, key=size)
        for growth in growths[max(0, above - 1) : above + 1]:
            yield _sized(document, growth, max(1.0, growth * ratio))


def _growths(document: Document) -> Iterator[float]:
    """Factors of the width at which everything that widens is whole, in order."""
    numbers = [document.organism.width, *(value for _, value in _widening(document) if value > 1)]
    unit = math.gcd(*numbers)
    for step in range(1, MOST_WIDTH * unit // document.organism.width + 1):
        if document.organism.width * step // unit % ALIGNED == 0:
            yield step / unit


def _widening(document: Document) -> Iterator[tuple[Path, int]]:
    """Every number that goes by the width of the stream."""
    for place in walk(document.organism, ("organism",)):
        if place.field.meta(Widening) is not None and isinstance(place.value, int):
            yield place.path, place.value


def _sized(document: Document, growth: float, deeper: float) -> Document:
    """The document with widths and depths multiplied."""
    changes: dict[Path, Any] = {path: max(1, round(value * growth)) for path, value in _widening(document) if value > 1}
    changes["organism", "width"] = round(document.organism.width * growth)
    wide = replaced(document, changes)
    stages = stages_of(wide.organism)
    longer = [stage.longer(round(stage.depth * (deeper - 1))) or stage for stage in stages]
    changes = {("organism", "stages"): tuple(longer)}
    if growth != 1 and document.train.rates is None:
        changes["train", "rates"] = MaximalUpdateRates(base=document.organism.width)
    return replaced(wide, changes)
