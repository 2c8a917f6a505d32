"""The archive pictures: its cells lie in as many dimensions as there are measures. Beside one projection of all,
every pair of measures has a panel."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evo.report.page.figures import counted, decimals, finite
from evo.report.page.glossary import MEASURES, label
from evo.report.page.markup import Html, joined, tag
from evo.report.page.places import MAX_CENTROIDS, position
from evo.report.page.plane import plane
from evo.report.page.scale import Scale
from evo.report.page.shades import Shades
from evo.report.record import Report, Variant

WIDTH, HEIGHT = 240, 224
ACROSS = Scale(0.0, 1.0, 40.0, 232.0)
UP = Scale(0.0, 1.0, 184.0, 8.0)


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
    shades = Shades.of_objectives([mark.objective for mark in marks])
    pairs = [(row, column) for row in range(1, len(report.measures)) for column in range(row)]
    panels = [_panel(report, marks, shades, row, column) for row, column in pairs]
    terms = [(tag("dt", label(name)), tag("dd", MEASURES.get(name, "no definition"))) for name in report.measures]
    legend = shades.legend() if marks else tag("p", "No elites.", class_="soft key")
    glossary = tag("dl", *(part for term in terms for part in term), class_="glossary")
    return tag(
        "section",
        tag("h2", "Archive", id="archive"),
        tag("p", _caption(report, marks)),
        tag("div", plane(report), tag("div", legend, glossary), class_="whole"),
        tag("div", *panels, class_="pairs"),
    )


def _caption(report: Report, marks: list[Mark]) -> Html:
    total = len(report.centroids)
    parts: list[str | None] = [
        f"{counted(len(marks), 'elite')} in {counted(total, 'cell')}: in one picture along the two directions "
        "in which variants differ most, then along every pair of measures. Large dots are elites where they were "
        "measured, coloured by objective; the smallest dots are the cells' centroids, and "
        "grey ones in the first picture the other variants. "
    ]
    if any(mark.id == report.best for mark in marks):
        parts.append("The ring is the best elite. ")
    if _points(report, report.seeds):
        parts.append("Crosses are the seeds. ")
    if total > MAX_CENTROIDS:
        parts.append(f"Of the centroids, one in {_stride(total)} is drawn. ")
    parts.append("Point at a dot for its name and score; click it for all of it.")
    return joined(parts)


def _marks(report: Report) -> list[Mark]:
    """The elites, worst first, so that the better are drawn over them."""
    found: list[Mark] = []
    for id, cell in report.cells.items():
        variant = report.by_id[id]
        at, objective = position(variant.measures, report), finite(variant.objective)
        title = f"{id}: objective {decimals(objective)}, {decimals(variant.score)} {report.primary.label}, cell {cell}"
        if at is not None:
            found.append(Mark(id, at, objective, title))
    return sorted(found, key=lambda mark: (-math.inf if mark.objective is None else mark.objective, mark.id))


def _points(report: Report, variants: list[Variant]) -> list[tuple[float, ...]]:
    return [at for variant in variants if (at := position(variant.measures, report)) is not None]


def _stride(total: int) -> int:
    return -(-total // MAX_CENTROIDS)


def _panel(report: Report, marks: list[Mark], shades: Shades, row: int, column: int) -> Html:
    across, up = label(report.measures[column]), label(report.measures[row])
    total = len(report.centroids)
    centroids = report.centroids[:: _stride(total)] if total else []
    places = [(at[column], at[row]) for at in (position(c, report) for c in centroids) if at is not None]
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
    return tag("figure", drawing)


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
    dot = tag("circle", title, cx=x, cy=y, r=4, class_=f"elite q{shades.shade(mark.objective)}", data_id=mark.id)
    return joined([tag("circle", cx=x, cy=y, r=8, class_="ring"), dot]) if is_best else dot
