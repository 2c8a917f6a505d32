"""Small organisms made large: the same shape at another number of parameters. Torch-free."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from typing import Any, Literal

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.check import problems
from evo.compiler.resolve import resolve, stages_of
from evo.dsl.document import Document
from evo.dsl.genes import Widening
from evo.dsl.organism import StageSpec
from evo.dsl.rates import MaximalUpdateRates
from evo.dsl.spec import INPUT
from evo.dsl.tree import Path, replaced, walk

Way = Literal["stretching", "stacking"]
"""How an organism gets deeper: each stage in place, or the whole of them after itself."""

MOST_WIDTH = 32_768
ALIGNED = 8
"""What widths are whole multiples of."""
RATIOS: dict[Way, list[float]] = {
    "stretching": [step / 10 for step in range(5, 21)],
    "stacking": [step / 10 for step in range(8, 14)],
}
"""How much the depth grows as a multiple of what the width grows, tried around 1. Whole copies are coarse: nearer to 1,
lest the width alone grow."""


class CannotScaleError(DiagnosticError):
    """No valid organism of the same shape is near the size that is asked for (EVO624)."""


def scaled(document: Document, parameters: float, way: Way = "stretching") -> Document:
    """A document whose organism has about so many parameters, in the shape of the given one.

    Widths grow and shrink together, so that heads keep theirs: everything that is marked as `Widening` goes by the
    width of the stream, and stays whole. Depth grows by about as much as the width (aspect kept, Kaplan et al. 2020):
    by stretching, each stage in place, its lists cycling on, where those that cannot be longer keep their depth; or by
    stacking the whole graph after itself, so that what stood first stands first in every copy. None gets shallower.
    Rates follow the width by `train.rates`, muP's if there are none, based on the width that they were found at.

    Raises:
        CannotScaleError: nothing valid comes within a third of it.
    """
    best: tuple[float, Document] | None = None
    for candidate in _candidates(document, parameters, way):
        if not _stands(candidate):
            continue
        miss = abs(math.log(resolve(candidate.organism).parameters / parameters))
        if best is None or miss < best[0]:
            best = miss, candidate
    if best is None or best[0] > math.log(4 / 3):
        own = f"'{document.name}'" if document.name else "this organism"
        message = f"nothing of the shape of {own} has about {parameters:,.0f} parameters"
        near = "a size nearer to the document's own"
        if best is not None:
            near = f"{resolve(best[1].organism).parameters:,}, the nearest size that it has"
        raise CannotScaleError([Diagnostic("EVO624", message, None, f"ask for {near}")])
    return best[1]


def _candidates(document: Document, parameters: float, way: Way) -> Iterator[Document]:
    """Documents around the size: for each depth, the widths on both sides of it."""
    growths, own = list(_growths(document)), resolve(document.organism).parameters
    for ratio in RATIOS[way]:

        def size(growth: float, ratio: float = ratio) -> float:
            deeper = max(1.0, growth * ratio)
            found = _sized(document, growth, deeper, way)
            # one that does not stand has no plan: about so many, as maps grow with both of their sides
            return resolve(found.organism).parameters if _stands(found) else own * growth**2 * deeper

        reach = 1  # doubled until it is beyond the size: plans of huge organisms take long
        while reach < len(growths) and size(growths[reach - 1]) < parameters:
            reach *= 2
        above = bisect_left(growths[:reach], parameters, key=size)
        for growth in growths[max(0, above - 1) : above + 1]:
            yield _sized(document, growth, max(1.0, growth * ratio), way)


def _stands(document: Document) -> bool:
    """Whether it has no error."""
    return not any(fault.severity == "error" for fault in problems(document))


def _growths(document: Document) -> Iterator[float]:
    """Factors of the width at which everything that widens is whole, in order."""
    numbers = [document.organism.width, *(value for _, value in _widening(document) if value > 1)]
    unit = math.gcd(*numbers)
    for step in range(1, MOST_WIDTH * unit // document.organism.width + 1):
        if document.organism.width * step // unit % ALIGNED == 0:
            yield step / unit


def _widening(document: Document) -> Iterator[tuple[Path, int]]:
    """Every number that goes by the width of the stream, and that means something."""
    for place in walk(document.organism, ("organism",)):
        if place.field.meta(Widening) is None or place.field.name in place.owner.unread:
            continue
        if isinstance(place.value, int):
            yield place.path, place.value


def widths(document: Document, growth: float) -> dict[Path, int]:
    """The stream's width and everything that goes by it, by path, multiplied and rounded: the width to a whole multiple
    of `ALIGNED`; nothing is below 1."""
    changes = {path: max(1, round(value * growth)) for path, value in _widening(document) if value > 1}
    changes["organism", "width"] = max(1, round(document.organism.width * growth / ALIGNED)) * ALIGNED
    return changes


def _sized(document: Document, growth: float, deeper: float, way: Way) -> Document:
    """The document with widths and depths multiplied."""
    wide = replaced(document, widths(document, growth))
    stages = stages_of(wide.organism)
    deepen = _stretched if way == "stretching" else _stacked
    changes: dict[Path, Any] = {("organism", "stages"): tuple(deepen(stages, deeper))}
    if growth != 1 and document.train.rates is None:
        changes["train", "rates"] = MaximalUpdateRates(base=document.organism.width)
    return replaced(wide, changes)


def _stretched(stages: list[StageSpec], deeper: float) -> list[StageSpec]:
    """Each stage with more layers of its kind, where it can have more."""
    return [stage.longer(round(stage.depth * (deeper - 1))) or stage for stage in stages]


def _stacked(stages: list[StageSpec], deeper: float) -> list[StageSpec]:
    """The graph after itself: what reads the embedding in the first copy reads the end of the one before in another.

    One whose last stage must be the last stands once.
    """
    found = list(stages)
    if stages[-1].is_read_by_turn:
        return found
    for turn in range(2, round(deeper) + 1):
        taken, new = {stage.name for stage in found}, {INPUT: found[-1].name}
        for stage in stages:
            free = (f"{stage.name}_{number}" for number in count(turn))
            new[stage.name] = next(name for name in free if name not in taken)
            taken.add(new[stage.name])
        found += [_renamed(stage, new) for stage in stages]
    return found


def _renamed(stage: StageSpec, new: dict[str, str]) -> StageSpec:
    """A stage under its new name, which reads others under theirs."""
    changes: dict[Path, Any] = {("name",): new[stage.name]}
    for field in stage.source_fields().values():
        written = getattr(stage, field.name)
        if isinstance(written, str):
            changes[field.key,] = new[written]
        elif written is not None:
            changes[field.key,] = tuple(new[name] for name in written)
    return replaced(stage, changes)
