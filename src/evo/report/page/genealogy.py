"""The whole family: every variant in the column of its generation, joined to its parents, crossovers included."""

from __future__ import annotations

from itertools import pairwise

from evo.report.page.figures import decimals
from evo.report.page.markup import Html, joined, tag
from evo.report.page.shades import Shades
from evo.report.record import Report, Variant

WIDTH, NARROWEST, WIDEST = 1000.0, 40.0, 120.0
"""What generations share, and the least and most between two of them; the drawing is scrolled where it is too wide."""
ROW, EDGE = 19.0, 16.0
"""Between two variants of a generation, and around all."""
MOST = 3000
"""Variants that are drawn; of more, only elites and their ancestors."""
TALL = 40
"""Variants of a generation from which rows draw together."""

Places = dict[str, tuple[float, float]]


def genealogy(report: Report) -> Html:
    """The section with the family tree."""
    heading = tag("h2", "Genealogy", id="genealogy")
    if not report.variants:
        return tag("section", heading, tag("p", "No variant was made.", class_="soft"))
    shown = _shown(report)
    left_out = len(report.variants) - len(shown)
    dropped = f" Elites and their ancestors are drawn; {left_out:,} others are not." if left_out else ""
    note = (
        "A column a generation, the seeds first. Lines lead to first parents, dashed ones to the others; thick is the "
        f"line of the best. Filled dots are elites, coloured by objective; crosses failed.{dropped}"
    )
    return tag(
        "section", heading, tag("p", note, class_="soft"), tag("div", _drawing(report, shown), class_="scroll family")
    )


def _shown(report: Report) -> list[Variant]:
    if len(report.variants) <= MOST:
        return list(report.variants)
    kept, open_ids = set[str](), list(report.cells)
    while open_ids:
        id = open_ids.pop()
        if id not in kept:
            kept.add(id)
            open_ids += report.by_id[id].parents
    return [variant for variant in report.variants if variant.id in kept]


def _places(shown: list[Variant]) -> Places:
    """Columns by generation; in a column in the order of the first parents' heights, so that few lines cross."""
    columns: dict[int, list[Variant]] = {}
    for variant in shown:
        columns.setdefault(variant.generation, []).append(variant)
    tallest = max(map(len, columns.values()))
    row, step = ROW * min(1.0, TALL / tallest), min(WIDEST, max(NARROWEST, WIDTH / len(columns)))
    found: Places = {}
    for place, generation in enumerate(sorted(columns)):
        own = columns[generation]
        own.sort(key=lambda v: (found[v.parents[0]][1] if v.parents and v.parents[0] in found else 0.0, v.id))
        start = EDGE + (tallest - len(own)) * row / 2
        for index, variant in enumerate(own):
            found[variant.id] = (EDGE + place * step, start + index * row)
    return found


def _drawing(report: Report, shown: list[Variant]) -> Html:
    places = _places(shown)
    width = max(x for x, _ in places.values()) + EDGE
    height = max(y for _, y in places.values()) + EDGE + 14
    shades = Shades.of_objectives([report.by_id[id].objective for id in report.cells])
    line = [step.id for step in report.lineage]
    thick = set(pairwise(line))
    generations = sorted({variant.generation: places[variant.id][0] for variant in shown}.items())
    labels = [tag("text", str(number), x=f"{x:.0f}", y=f"{height - 3:.0f}", text_anchor="middle")
              for number, x in generations]  # fmt: skip
    spoken = f"Family tree of {len(shown)} variants over {len(generations)} generations"
    return tag(
        "svg",
        *(edge for variant in shown for edge in _edges(variant, places, thick)),
        *(_mark(variant, places[variant.id], shades, report) for variant in shown),
        *labels,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=spoken,
        style=f"max-width:{width:.0f}px;min-width:{len(generations) * NARROWEST:.0f}px",
    )


def _edges(variant: Variant, places: Places, thick: set[tuple[str, str]]) -> list[Html]:
    x, y = places[variant.id]
    found: list[Html] = []
    for index, parent in enumerate(dict.fromkeys(variant.parents)):
        if parent in places:
            px, py = places[parent]
            bend = f"M{px:.0f} {py:.1f}C{(px + x) / 2:.0f} {py:.1f} {(px + x) / 2:.0f} {y:.1f} {x:.0f} {y:.1f}"
            look = "kin other" if index else "kin first" if (parent, variant.id) in thick else "kin"
            found.append(tag("path", d=bend, class_=look, data_child=variant.id, data_parent=parent))
    return found


def _mark(variant: Variant, at: tuple[float, float], shades: Shades, report: Report) -> Html:
    x, y = at
    made = ", ".join(variant.operators) or "seed"
    if variant.cause or variant.score is None:
        title = tag("title", f"{variant.id} ({made}): {variant.cause}")
        return tag("path", title, d=f"M{x - 3:.0f} {y - 3:.1f}l6 6m0 -6l-6 6", class_="failed", data_id=variant.id)
    said = f"{variant.id} ({made}): {decimals(variant.score)} {report.primary.label}"
    objective = variant.objective
    look = f"elite q{shades.shade(objective)}" if variant.id in report.cells else "plain"
    place: dict[str, str] = {"cx": f"{x:.0f}", "cy": f"{y:.1f}"}
    dot = tag("circle", tag("title", said), **place, r=5 if "elite" in look else 3.5, class_=look, data_id=variant.id)
    return joined([tag("circle", **place, r=9, class_="ring"), dot]) if variant.id == report.best else dot
