"""The search over its generations: one small panel for each thing that is followed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from evo.evolution.summary import Summary
from evo.report.page.figures import MINUS, decimals, finite, percent, whole
from evo.report.page.markup import Html, tag
from evo.report.page.scale import Scale, around, spelled, ticks, whole_ticks
from evo.report.record import Report

Point: TypeAlias = tuple[int, float]
WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 50.0, 350.0, 10.0, 150.0
MAX_POINTS = 40
"""Generations up to which every one has a dot to point at."""
HEADROOM = 0.5
"""How far beyond the followed lines single variants are still drawn, as a share of the lines' range."""


@dataclass(frozen=True)
class Panel:
    """What one panel shows. `level`s are horizontal lines with their names; `each` is single variants. noise: half the
    height of a band around each level."""

    title: str
    note: str
    points: list[Point]
    spell: Callable[[float], str]
    second: list[Point] = field(default_factory=list)
    levels: list[tuple[str, float]] = field(default_factory=list)
    each: list[Point] = field(default_factory=list)
    from_zero: bool = False
    is_count: bool = False
    line: str = "line"
    noise: float = 0.0


def curves(report: Report) -> Html:
    """The section with all panels."""
    if not report.generations:
        return tag("section", tag("h2", "Progress"), tag("p", "No generation was finished.", class_="soft"))
    numbers = [summary.generation for summary in report.generations]
    first, last = min(numbers), max(numbers)
    across = Scale(first - 0.5, last + 0.5, LEFT, RIGHT) if first == last else Scale(first, last, LEFT, RIGHT)
    panels = [_figure(panel, across, first, last) for panel in _panels(report)]
    note = "Values after each generation; generation 0 is the seeds. Point at a dot for its number."
    return tag(
        "section",
        tag("h2", "Progress", id="progress"),
        tag("p", note, class_="soft"),
        tag("div", *panels, class_="curves"),
    )


def _followed(report: Report, number: Callable[[Summary], float | None]) -> list[Point]:
    values = ((summary.generation, finite(number(summary))) for summary in report.generations)
    return [(generation, value) for generation, value in values if value is not None]


def _panels(report: Report) -> list[Panel]:
    return [
        _scores(report),
        Panel("Best objective", "higher is better", _followed(report, lambda s: s.best_objective), decimals),
        Panel(
            "QD score", "sum of the elites' objectives", _followed(report, lambda s: s.qd_score), _three, from_zero=True
        ),
        Panel(
            "Coverage",
            "cells with an elite, in percent",
            _followed(report, lambda s: 100 * s.coverage),
            _percent,
            from_zero=True,
        ),
        Panel(
            "Into the archive",
            "solid: new or better in their cell; dashed: failed",
            _followed(report, lambda s: s.improved),
            whole,
            second=_followed(report, lambda s: s.failures),
            from_zero=True,
            is_count=True,
        ),
        Panel(
            "Temperature",
            "acceptance and mutation size",
            _followed(report, lambda s: s.temperature),
            decimals,
            from_zero=True,
            line="line thin",
        ),
    ]


def _three(value: float) -> str:
    return decimals(value, 3)


def _percent(value: float) -> str:
    return percent(value / 100)


def _scores(report: Report) -> Panel:
    primary, seed = report.primary, report.best_seed
    levels = [("best seed", seed.score)] if seed is not None and seed.score is not None else []
    points = _followed(report, lambda s: s.best_score)
    bounds = [value for _, value in points] + [value for _, value in levels]
    worst = max(bounds, key=primary.cost, default=0.0)
    room = HEADROOM * (max(bounds, default=0.0) - min(bounds, default=0.0))
    edge = worst + room if primary.lower_is_better else worst - room
    band = finite(report.noise) or 0.0
    known = [(v.generation, score) for v in report.variants if (score := finite(v.score)) is not None]
    each = [(generation, score) for generation, score in known if not primary.is_better(edge, score)]
    hidden = len(known) - len(each)
    off = "above" if primary.lower_is_better else "below"
    spread = "; the band is the noise of one trial" if band and levels else ""
    beyond = f", {hidden} {off} the scale" if hidden else ""
    note = f"{primary.superlative} so far; pale dots are variants{beyond}{spread}"
    return Panel(f"Best held-out {primary.label}", note, points, decimals, levels=levels, each=each, noise=band)


def _figure(panel: Panel, across: Scale, first: int, last: int) -> Html:
    final = panel.spell(panel.points[-1][1]) if panel.points else "no values"
    values = [v for _, v in panel.points + panel.second + panel.each]
    values += [v + side for _, v in panel.levels for side in (panel.noise, -panel.noise)]
    up = around([*values, 0.0] if panel.from_zero else values, BOTTOM, TOP)
    up = Scale(0.0, up.high, BOTTOM, TOP) if panel.from_zero else up
    drawing = tag(
        "svg",
        *_bands(panel, up),
        *_axes(across, up, first, last, panel.is_count),
        *(tag("circle", cx=f"{across(x):.1f}", cy=f"{up(y):.1f}", r=2, class_="each") for x, y in panel.each),
        *_levels(panel.levels, up),
        *_curve(panel.points, panel, across, up, panel.line, "point"),
        *_curve(panel.second, panel, across, up, "line2", "point2"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_spoken(panel, final),
    )
    caption = tag("figcaption", f"{panel.title}: {final}", tag("small", panel.note))
    return tag("figure", caption, drawing)


def _spoken(panel: Panel, final: str) -> str:
    if not panel.points:
        return f"{panel.title}: no values"
    (begin, value), (end, _) = panel.points[0], panel.points[-1]
    levels = "".join(f"; {name} {panel.spell(level)}" for name, level in panel.levels)
    return f"{panel.title} from {panel.spell(value)} in generation {begin} to {final} in generation {end}{levels}"


def _axes(across: Scale, up: Scale, first: int, last: int, is_count: bool) -> list[Html]:
    rungs = [rung for rung in ticks(up.low, up.high) if not is_count or rung == round(rung)]
    lines = "".join(f"M{LEFT:.0f} {up(y):.1f}H{RIGHT:.0f}" for y in rungs)
    numbers = [
        tag("text", text, x=LEFT - 6, y=f"{up(y) + 4:.1f}", text_anchor="end")
        for y, text in zip(rungs, spelled(rungs), strict=True)
    ]
    below = [
        tag("text", str(x).replace("-", MINUS), x=f"{across(x):.1f}", y=BOTTOM + 17, text_anchor="middle")
        for x in whole_ticks(first, last)
    ]
    name = tag("text", "generation", x=(LEFT + RIGHT) / 2, y=BOTTOM + 34, text_anchor="middle")
    return [tag("path", d=lines, class_="axis"), *numbers, *below, name]


def _bands(panel: Panel, up: Scale) -> list[Html]:
    if not panel.noise:
        return []
    edges = [(up(value + panel.noise), up(value - panel.noise)) for _, value in panel.levels]
    return [
        tag("rect", x=LEFT, y=f"{top:.1f}", width=RIGHT - LEFT, height=f"{bottom - top:.1f}", class_="band")
        for top, bottom in edges
    ]


def _levels(levels: list[tuple[str, float]], up: Scale) -> list[Html]:
    """Horizontal lines: the first is named at its right end, where scores are below it, others at their left."""
    found: list[Html] = []
    for index, (name, value) in enumerate(levels):
        y, other = up(value), "" if index == 0 else "2"
        found.append(tag("path", d=f"M{LEFT:.0f} {y:.1f}H{RIGHT:.0f}", class_=f"level{other}"))
        x, y, anchor = (RIGHT, y - 5, "end") if index == 0 else (LEFT + 4, y - 5, "start")
        found.append(tag("text", name, class_=f"say{other}", x=x, y=f"{y:.1f}", text_anchor=anchor))
    return found


def _curve(points: list[Point], panel: Panel, across: Scale, up: Scale, line: str, dot: str) -> list[Html]:
    if not points:
        return []
    path = "M" + "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
    shown = points if len(points) <= MAX_POINTS else [points[-1]]
    dots = [
        tag(
            "circle",
            tag("title", f"generation {x}: {panel.spell(y)}"),
            cx=f"{across(x):.1f}",
            cy=f"{up(y):.1f}",
            r=2 if "thin" in line else 3,
            class_=dot,
        )
        for x, y in shown
    ]
    return [tag("path", d=path, class_=line), *dots]
