"""Gene metadata: which fields of a spec evolution may move, and how far.

A gene is declared on the field itself, so a new kind of block is evolvable, documented and fuzzed the moment its class
exists:

    heads: Annotated[int, Field(ge=1), Gene(1, 64, "x2")] = 8

Booleans, literals and kinds need no range: their choices are their type. `Gene.fixed` marks what must not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Step = Literal["x2", "+1", "scale", "linear"]


@dataclass(frozen=True)
class Gene:
    """An evolvable number's range and scale.

    step: `x2` doubles or halves; `+1` adds or subtracts one or a few; `scale` multiplies by a log-normal factor and
    rounds an int to a multiple of `multiple`; `linear` adds a normal share of the range. `optional`: the field may also
    become null, and a null becomes a number of the range.
    """

    low: float
    high: float
    step: Step
    multiple: int = 1
    optional: bool = False


@dataclass(frozen=True)
class Fixed:
    """Marks a field that evolution leaves alone: a name, a seed, the vocabulary, a budget."""


@dataclass(frozen=True)
class Drawn:
    """Marks a field whose value is a spec: when its owner is drawn afresh, it may leave its default as genes do.

    Without the mark (an override of what the surroundings say) it waits until an operator picks another kind.
    """


FIXED = Fixed()
DRAWN = Drawn()


@dataclass(frozen=True)
class Widening:
    """Marks a number of heads or channels that grows with the width of the stream when an organism is made larger."""


WIDENING = Widening()
