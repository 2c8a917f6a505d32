"""The archive picture: its cells lie in as many dimensions as there are measures, so every pair of them has a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evo.report.page.figures import counted, decimals, finite
from evo.report.page.glossary import MEASURES, label
from evo.report.page.markup import Html, joined, tag
from evo.report.page.scale import Scale
from evo.report.page.style import SHADES
from evo.report.record import Report, Variant

WIDTH, HEIGHT = 240, 224
ACROSS = Scale(0.0, 1.0, 40.0, 232.0)
UP = Scale(0.0, 1.0, 184.0, 8.0)
MAX_CENTROIDS = 2000
"""Centroids drawn in a panel; of more, every so manieth."""
DISTINCT = 1e-9


@dataclass(frozen=True)
class Mark:
    """An elite: where it stands, and how good it is."""

    id: str
    at: tuple[float, ...]
    objective: float | None
    title: str


def archive(report: Report) -> Html:
    """The section: the panels, their legend, and what the measures mean."""
    marks = _marks(report)
    shades = Shades.of(marks)
    count = len(report.measures)
    pairs = [(row, column) for row in range(1, count) for column in range(row)]
    panels = [_panel(report, marks, shades, row, column) for row, column in pairs]
    terms = [(tag("dt", label(name)), tag("dd", MEASURES.get(name, "no definition"))) for name in report.measures]
    legend = shades.legend() if marks else tag("p", "No elites.", class_="soft key")
    glossary = tag("dl", *(part for term in terms for part in term), class_="glossary")
    return tag(
        "section",
        tag("h2", "Archive", id="archive"),
        tag("p", _caption(report, marks)),
        tag("div", legend, *panels, glossary, class_="matrix", style=f"--columns:{max(2, count - 1)}"),
    )


def _caption(report: Report, marks: list[Mark]) -> Html:
    total = len(report.centroids)
    parts: list[str | None] = [
        f"{counted(len(marks), 'elite')} in {counted(total, 'cell')}, seen along every pair of measures. Large dots "
        "are elites where they were measured, coloured by objective; small dots are the cells' centroids. "
    ]
    if any(mark.id == report.best for mark in marks):
        parts.append("The ring is the best elite. ")
    if _points(report, report.seeds):
        parts.append("Crosses are the seeds. ")
    if total > MAX_CENTROIDS:
        parts.append(f"Of the centroids, one in {_stride(total)} is drawn. ")
    parts.append("Point at a dot for its name and score.")
    return joined(parts)


def _marks(report: Report) -> list[Mark]:
    """The elites, worst first, so that the better are drawn over them."""
    found: list[Mark] = []
    for id, cell in report.cells.items():
        variant = report.by_id[id]
        at, objective = _position(variant.measures, report), finite(variant.objective)
        title = f"{id}: objective {decimals(objective)}, {decimals(variant.score)} {report.primary.label}, cell {cell}"
        if at is not None:
            found.append(Mark(id, at, objective, title))
    return sorted(found, key=lambda mark: (-math.inf if mark.objective is None else mark.objective, mark.id))


def _position(values: Sequence[float], report: Report) -> tuple[float, ...] | None:
    numbers = [finite(value) for value in values]
    known = tuple(min(max(number, 0.0), 1.0) for number in numbers if number is not None)
    return known if known and len(known) == len(numbers) == len(report.measures) else None


def _points(report: Report, variants: list[Variant]) -> list[tuple[float, ...]]:
    return [at for variant in variants if (at := _position(variant.measures, report)) is not None]


def _stride(total: int) -> int:
    return -(-total // MAX_CENTROIDS)


def _panel(report: Report, marks: list[Mark], shades: Shades, row: int, column: int) -> Html:
    across, up = label(report.measures[column]), label(report.measures[row])
    total = len(report.centroids)
    centroids = report.centroids[:: _stride(total)] if total else []
    places = [(at[column], at[row]) for at in (_position(c, report) for c in centroids) if at is not None]
    dots = "".join(f"M{ACROSS(x):.1f} {UP(y):.1f}h0" for x, y in places)
    crosses = "".join(
        f"M{ACROSS(at[column]) - 5:.1f} {UP(at[row]):.1f}h10m-5 -5v10" for at in _points(report, report.seeds)
    )
    drawing = tag(
        "svg",
        *_frame(across, up),
        tag("path", d=dots, class_="cells") if dots else None,
        tag("path", d=crosses, class_="seed") if crosses else None,
        *(_mark(mark, shades, mark.id == report.best, row, column) for mark in marks),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{counted(len(marks), 'elite')} by {across} (across) and {up} (up)",
    )
    return tag("figure", drawing, style=f"grid-area:{row}/{column + 1}")


def _frame(across: str, up: str) -> list[Html]:
    lines = "".join(
        f"M{ACROSS(tick):.1f} {UP(0):.1f}V{UP(1):.1f}M{ACROSS(0):.1f} {UP(tick):.1f}H{ACROSS(1):.1f}"
        for tick in (0.0, 0.5, 1.0)
    )
    numbers = [
        part
        for tick, text in ((0.0, "0"), (0.5, ".5"), (1.0, "1"))
        for part in (
            tag("text", text, x=f"{ACROSS(tick):.1f}", y=200, text_anchor="middle"),
            tag("text", text, x=34, y=f"{UP(tick) + 4:.1f}", text_anchor="end"),
        )
    ]
    middle = UP(0.5)
    return [
        tag("path", d=lines, class_="axis"),
        *numbers,
        tag("text", across, x=f"{ACROSS(0.5):.1f}", y=218, text_anchor="middle", class_="name"),
        tag("text", up, x=12, y=middle, text_anchor="middle", class_="name", transform=f"rotate(-90 12 {middle})"),
    ]


def _mark(mark: Mark, shades: Shades, is_best: bool, row: int, column: int) -> Html:
    x, y = f"{ACROSS(mark.at[column]):.1f}", f"{UP(mark.at[row]):.1f}"
    title = tag("title", mark.title)
    dot = tag("circle", title, cx=x, cy=y, r=4, class_=f"elite q{shades.shade(mark.objective)}")
    return joined([tag("circle", cx=x, cy=y, r=8, class_="ring"), dot]) if is_best else dot


@dataclass(frozen=True)
class Shades:
    """Classes of equal width from the lowest objective to the highest."""

    low: float
    high: float

    @classmethod
    def of(cls, marks: list[Mark]) -> Shades:
        """The classes that hold the objectives of these elites."""
        known = [mark.objective for mark in marks if mark.objective is not None]
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
