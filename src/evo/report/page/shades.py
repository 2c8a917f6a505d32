"""The colours of objectives: a few classes of equal width, with their legend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evo.report.page.figures import decimals, finite
from evo.report.page.markup import Html, tag
from evo.report.page.style import SHADES

DISTINCT = 1e-9
"""Objectives that differ by less are one."""


@dataclass(frozen=True)
class Shades:
    """Classes of equal width from the lowest objective to the highest."""

    low: float
    high: float

    @classmethod
    def of_objectives(cls, objectives: Iterable[float | None]) -> Shades:
        """The classes that hold these objectives."""
        known = [number for objective in objectives if (number := finite(objective)) is not None]
        return cls(min(known, default=0.0), max(known, default=0.0))

    def shade(self, objective: float | None) -> int:
        """The class of an objective; the lowest if there is none."""
        if objective is None or self.high - self.low < DISTINCT:
            return 0 if objective is None else SHADES - 1
        return min(SHADES - 1, int(SHADES * (objective - self.low) / (self.high - self.low)))

    def legend(self) -> Html:
        """The classes in a row with the objectives between them."""
        first = 0 if self.high - self.low >= DISTINCT else SHADES - 1
        wide = 44
        boxes = [
            tag("rect", x=wide * place + 20, y=20, width=wide, height=12, class_=f"elite q{shade}")
            for place, shade in enumerate(range(first, SHADES))
        ]
        edges = [self.low] if first else [self.low + (self.high - self.low) * i / SHADES for i in range(SHADES + 1)]
        places = [f"{wide * place + 20 + (wide / 2 if first else 0):.0f}" for place in range(len(edges))]
        numbers = [
            tag("text", decimals(edge, 3), x=x, y=46, text_anchor="middle")
            for x, edge in zip(places, edges, strict=True)
        ]
        spoken = f"Colours: objective from {decimals(self.low, 3)} to {decimals(self.high, 3)}"
        name = tag("text", "objective", x=20, y=12, class_="name")
        drawing = tag("svg", name, *boxes, *numbers, viewBox="0 0 392 50", role="img", aria_label=spoken)
        return tag("div", drawing, class_="key")
