"""The drawing of a ladder: the distance from a perfect score against training FLOPs, both by their logarithms."""

from __future__ import annotations

import math

from evo.evolution.ladder.findings import Climb, Findings, loss
from evo.report.page.figures import decimals
from evo.report.page.markup import Html, joined, tag
from evo.report.page.scale import Scale, around, spelled, ticks

WIDTH, HEIGHT = 620, 320
LEFT, RIGHT, TOP, BOTTOM = 56.0, 608.0, 12.0, 270.0
POINTS = 40
"""Of a line that is a law."""
COLOURS = 3
"""Lines that are told apart by colour; of further ones the dots say whose they are."""


def drawing(found: Findings) -> Html:
    """The legend and the chart."""
    climbs = [climb for climb in found.climbs if any(climb.scores.values())]
    losses = {
        climb.name: [
            (found.sizes[at].flops, own)
            for at, scores in climb.scores.items()
            for score in scores
            if (own := loss(found.primary, score)) > 0
        ]
        for climb in climbs
    }
    flops = [math.log10(size.flops) for size in found.sizes]
    across = around(flops, LEFT, RIGHT)
    up = around([math.log10(own) for points in losses.values() for _, own in points], BOTTOM, TOP)
    legend = [tag("span", climb.name, class_=f"chosen{place}") for place, climb in enumerate(climbs)]
    told = f"{found.primary.label} of {len(climbs)} contestants at {len(flops)} sizes"
    chart = tag(
        "svg",
        *_axes(found, across, up),
        *(_law(climb, place, across, up) for place, climb in enumerate(climbs)),
        *(_dots(climb, losses[climb.name], place, across, up) for place, climb in enumerate(climbs)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=told,
        class_="wide",
    )
    return joined([tag("p", *legend, class_="legend"), chart])


def _law(climb: Climb, place: int, across: Scale, up: Scale) -> Html | None:
    if climb.law is None:
        return None
    places = [across.low + (across.high - across.low) * point / POINTS for point in range(POINTS + 1)]
    path = "L".join(f"{across(x):.1f} {up(math.log10(climb.law(10**x))):.1f}" for x in places)
    look = f"run chosen{place}" if place < COLOURS else "run"
    return tag("path", tag("title", climb.name), d=f"M{path}", class_=look)


def _dots(climb: Climb, points: list[tuple[float, float]], place: int, across: Scale, up: Scale) -> Html:
    look = f"dot chosen{place}" if place < COLOURS else "dot"
    return joined(
        tag(
            "circle",
            tag("title", f"{climb.name}: {decimals(own)} at {flops:.3g} FLOPs"),
            cx=f"{across(math.log10(flops)):.1f}",
            cy=f"{up(math.log10(own)):.1f}",
            r=4,
            class_=look,
        )
        for flops, own in points
    )


def _axes(found: Findings, across: Scale, up: Scale) -> list[Html]:
    """Horizontal lines at round losses, which the logarithm spaces unevenly, and a mark a size."""
    rungs = [rung for rung in ticks(10**up.low, 10**up.high) if rung > 0]
    lines = "".join(f"M{LEFT:.0f} {up(math.log10(y)):.1f}H{RIGHT:.0f}" for y in rungs)
    heights = [
        tag("text", text, x=LEFT - 6, y=f"{up(math.log10(y)) + 4:.1f}", text_anchor="end")
        for y, text in zip(rungs, spelled(rungs), strict=True)
    ]
    below = [
        tag("text", f"{size.flops:.2g}", x=f"{across(math.log10(size.flops)):.1f}", y=BOTTOM + 18, text_anchor="middle")
        for size in found.sizes
    ]
    name = tag("text", "training FLOPs", x=(LEFT + RIGHT) / 2, y=BOTTOM + 38, text_anchor="middle", class_="name")
    return [tag("path", d=lines, class_="axis"), *heights, *below, name]
