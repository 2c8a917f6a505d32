"""Learning curves: how the training loss of every candidate fell, by the compute spent, the chosen ones set off."""

from __future__ import annotations

from evo.report.page.figures import decimals, finite, short
from evo.report.page.markup import Html, tag
from evo.report.page.scale import Scale, around, spelled, ticks
from evo.report.record import Report, Variant

WIDTH, HEIGHT = 620, 320
LEFT, RIGHT, TOP, BOTTOM = 56.0, 608.0, 12.0, 270.0
MOST = 300
"""Candidates whose curves are drawn; of more, every so manieth, and the chosen ones."""
LOWER_SHARE = 0.75
"""The share of the points of chosen curves, from the lowest up, that the scale holds: a fall from the first steps'
heights would press everything else to the bottom."""
ROLES = ("best objective", "best score", "best seed")


def learning(report: Report) -> Html:
    """The section with the curves."""
    heading = tag("h2", "Learning curves", id="learning")
    drawn = [variant for variant in report.variants if any(variant.curves)]
    if not drawn:
        return tag("section", heading, tag("p", "No curve was kept.", class_="soft"))
    chosen = _chosen(report)
    stride = -(-len(drawn) // MOST)
    shown = [v for index, v in enumerate(drawn) if index % stride == 0 or v.id in chosen]
    thinned = f" Of the others, one in {stride} is drawn." if stride > 1 else ""
    note = (
        "Training loss in nats per target against the training FLOPs spent, each point the mean since the one before. "
        f"A rung goes on from the one below. Point at a curve for its name.{thinned}"
    )
    return tag("section", heading, tag("p", note, class_="soft"), _key(chosen), _drawing(report, shown, chosen))


def _chosen(report: Report) -> dict[str, int]:
    """The ids of curves that are set off -> the number of the first role that each has."""
    found: dict[str, int] = {}
    for role, variant in enumerate((report.best_variant, report.leader, report.best_seed)):
        if variant is not None and any(variant.curves):
            found.setdefault(variant.id, role)
    return found


def _key(chosen: dict[str, int]) -> Html:
    rows = [tag("span", f"{id} ({ROLES[role]})", class_=f"chosen{role}") for id, role in chosen.items()]
    return tag("p", *rows, class_="legend")


def _points(variant: Variant) -> list[list[tuple[float, float]]]:
    """(training FLOPs, loss) of each curve."""
    return [
        [(step * variant.step_flops, loss) for step, loss in curve if finite(loss) is not None]
        for curve in variant.curves
    ]


def _drawing(report: Report, shown: list[Variant], chosen: dict[str, int]) -> Html:
    lines = {variant.id: _points(variant) for variant in shown}
    everything = [point for own in lines.values() for curve in own for point in curve]
    across = Scale(0.0, max((x for x, _ in everything), default=0.0) or 1.0, LEFT, RIGHT)
    up = _upward(lines, chosen)
    order = sorted(shown, key=lambda variant: -chosen.get(variant.id, len(ROLES)))  # what is set off lies on top
    spoken = f"Learning curves of {len(shown)} candidates, up to {short(across.high)} training FLOPs"
    return tag(
        "svg",
        *_axes(across, up),
        tag(
            "svg",
            *(_curve(variant, lines[variant.id], across, up, chosen, report) for variant in order),
            x=LEFT,
            y=TOP,
            width=RIGHT - LEFT,
            height=BOTTOM - TOP,
            viewBox=f"{LEFT} {TOP} {RIGHT - LEFT} {BOTTOM - TOP}",
            class_="clip",
        ),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=spoken,
        class_="wide",
    )


def _upward(lines: dict[str, list[list[tuple[float, float]]]], chosen: dict[str, int]) -> Scale:
    framed = chosen or lines
    heights = sorted(y for id in framed for curve in lines[id] for _, y in curve)
    lowest = min((y for own in lines.values() for curve in own for _, y in curve), default=0.0)
    return around([lowest, *heights[: max(1, round(LOWER_SHARE * len(heights)))]], BOTTOM, TOP)


def _axes(across: Scale, up: Scale) -> list[Html]:
    rungs, columns = ticks(up.low, up.high), ticks(across.low, across.high, 5)
    lines = "".join(f"M{LEFT:.0f} {up(y):.1f}H{RIGHT:.0f}" for y in rungs)
    return [
        tag("path", d=lines, class_="axis"),
        *(
            tag("text", text, x=LEFT - 6, y=f"{up(y) + 4:.1f}", text_anchor="end")
            for y, text in zip(rungs, spelled(rungs), strict=True)
        ),
        *(
            tag("text", short(x), x=f"{across(x):.1f}", y=BOTTOM + 18, text_anchor="end" if x else "start")
            for x in columns
        ),
        tag("text", "training FLOPs", x=(LEFT + RIGHT) / 2, y=BOTTOM + 38, text_anchor="middle", class_="name"),
    ]


def _curve(
    variant: Variant,
    curves: list[list[tuple[float, float]]],
    across: Scale,
    up: Scale,
    chosen: dict[str, int],
    report: Report,
) -> Html:
    """One candidate's curves; a rung's begins where it left the one below."""
    place = lambda point: f"{across(point[0]):.1f} {up(point[1]):.1f}"  # noqa: E731
    runs: list[str] = []
    for curve, below in zip(curves, [[], *curves], strict=False):
        joints = [point for point in below if curve and point[0] <= curve[0][0]][-1:]
        runs.append("M" + "L".join(map(place, [*joints, *curve])) if curve else "")
    role = chosen.get(variant.id)
    said = f"{decimals(variant.score)} {report.primary.label}" if variant.score is not None else variant.cause
    title = tag("title", f"{variant.id}: {said}")
    return tag(
        "path", title, d="".join(runs), class_="run" if role is None else f"run chosen{role}", data_id=variant.id
    )
