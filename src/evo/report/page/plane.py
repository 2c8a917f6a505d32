"""The archive in one picture: cells and variants along the two leading principal components of the measures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evo.report.page.figures import decimals, percent, signed
from evo.report.page.glossary import label
from evo.report.page.markup import Html, joined, tag
from evo.report.page.places import MAX_CENTROIDS, position
from evo.report.page.scale import around
from evo.report.page.shades import Shades
from evo.report.record import Report, Variant

WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 26.0, 452.0, 8.0, 296.0
TOLD = 2
"""Measures named along an axis: those that weigh most in its component."""


def plane(report: Report) -> Html | None:
    """The figure, or None where fewer than three variants or two measures leave nothing to project."""
    scored = [(v, at) for v in report.variants if (at := position(v.measures, report)) is not None]
    if len(report.measures) < 2 or len({at for _, at in scored}) < 3:
        return None
    points_NM = np.array([at for _, at in scored])
    centre_M = points_NM.mean(0)
    _, sizes, directions = np.linalg.svd(points_NM - centre_M, full_matrices=False)
    # Signs of singular vectors are arbitrary: the heaviest measure counts upwards, so that equal runs look alike.
    heaviest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), heaviest])[:, None]
    shares = sizes**2 / (sizes**2).sum()
    placed_N2 = (points_NM - centre_M) @ directions[:2].T
    where = {variant.id: (float(x), float(y)) for (variant, _), (x, y) in zip(scored, placed_N2, strict=True)}
    cells_C2 = _cells(report, centre_M, directions)
    return _drawing(report, where, cells_C2, [_name(directions[i], shares[i], report, i) for i in (0, 1)])


def _cells(report: Report, centre_M: NDArray[np.float64], directions: NDArray[np.float64]) -> list[tuple[float, float]]:
    stride = max(1, -(-len(report.centroids) // MAX_CENTROIDS))
    known = [at for row in report.centroids[::stride] if (at := position(row, report)) is not None]
    placed_C2 = (np.array(known).reshape(-1, len(centre_M)) - centre_M) @ directions[:2].T
    return [(float(x), float(y)) for x, y in placed_C2]


def _name(direction: NDArray[np.float64], share: float, report: Report, index: int) -> str:
    order = np.argsort(-np.abs(direction))[:TOLD]
    parts = [f"{signed(direction[i], 2)} {label(report.measures[i])}" for i in order]
    which = ("first", "second")[index]
    return f"{which} component, {percent(share, 0)} of the spread: {', '.join(parts)}"


def _drawing(
    report: Report, where: dict[str, tuple[float, float]], cells: list[tuple[float, float]], names: list[str]
) -> Html:
    seen = [*where.values(), *cells]
    across, up = around([x for x, _ in seen], LEFT, RIGHT), around([y for _, y in seen], BOTTOM, TOP)
    dots = "".join(f"M{across(x):.1f} {up(y):.1f}h0" for x, y in cells)
    held = [report.by_id[id] for id in report.cells if id in where]
    shades = Shades.of_objectives([v.objective for v in held])
    others = [report.by_id[id] for id in where if id not in report.cells]
    by_worth = sorted(held, key=lambda v: (-math.inf if v.objective is None else v.objective, v.id))

    def mark(variant: Variant, look: str, radius: float) -> Html:
        x, y = where[variant.id]
        said = (
            f"{variant.id}: objective {decimals(variant.objective)}, {decimals(variant.score)} {report.primary.label}"
        )
        place: dict[str, str] = {"cx": f"{across(x):.1f}", "cy": f"{up(y):.1f}"}
        dot = tag("circle", tag("title", said), **place, r=radius, class_=look, data_id=variant.id)
        return joined([tag("circle", **place, r=9, class_="ring"), dot]) if variant.id == report.best else dot

    begun = [where[variant.id] for variant in report.seeds if variant.id in where]
    crosses = "".join(f"M{across(x) - 5:.1f} {up(y):.1f}h10m-5 -5v10" for x, y in begun)
    frame = f"M{LEFT:.0f} {TOP:.0f}V{BOTTOM:.0f}H{RIGHT:.0f}"
    drawing = tag(
        "svg",
        tag("path", d=frame, class_="axis"),
        tag("path", d=dots, class_="cells") if dots else None,
        *(mark(variant, "each", 2.5) for variant in others),
        tag("path", d=crosses, class_="seed") if crosses else None,
        *(mark(variant, f"elite q{shades.shade(variant.objective)}", 5) for variant in by_worth),
        viewBox=f"0 0 {WIDTH} {HEIGHT - 26}",
        role="img",
        aria_label=f"{len(held)} elites and {len(others)} other variants along two principal components",
    )
    caption = tag("figcaption", joined(["Across: ", names[0], tag("br"), "Up: ", names[1]]))
    return tag("figure", drawing, caption, class_="plane")
