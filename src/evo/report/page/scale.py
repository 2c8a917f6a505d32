"""Linear axes: from numbers to places in a drawing, and the round numbers to print along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` lie from `start` to `end` of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a number lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def around(values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Scale:
    """A scale that holds all values with a little room; one value alone lies in its middle, no value gives [0, 1]."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = margin * (high - low) or 0.1 * abs(high) or 0.5
    return Scale(low - room, high + room, start, end)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) within [low, high]."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def whole_ticks(low: int, high: int, count: int = 6) -> list[int]:
    """The same for counts: whole numbers only."""
    if low == high:
        return [low]
    return sorted({round(tick) for tick in ticks(low, high, min(count, high - low)) if tick == round(tick)})


def spelled(values: Sequence[float]) -> list[str]:
    """Ticks with just as many places as tell them apart."""
    gaps = [abs(b - a) for a, b in pairwise(values)]
    gap = min(gaps, default=abs(values[0]) if values else 1.0) or 1.0
    places = max(0, -math.floor(math.log10(gap)))
    if any(round(value, places) != round(value, places + 1) for value in values):
        places += 1
    return [f"{value:.{places}f}".replace("-", "\N{MINUS SIGN}") for value in values]
