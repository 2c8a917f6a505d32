"""The life of pools: a row a slot, a bar a pseudopod, a line from each newborn to the elite that it came from."""

from __future__ import annotations

from collections.abc import Sequence

from evo.report.page.markup import Html, joined, tag
from evo.report.page.scale import Scale, ticks
from evo.report.page.tables import folded, table
from evo.report.record import Report, Variant
from evo.slime.lives import Lived

WIDTH = 620
LEFT, RIGHT, TOP = 56.0, 608.0, 8.0
ROW, BAR, GAP = 18.0, 11.0, 1.5
NOTE = (
    "A row a slot, a bar a pseudopod, over the steps. Grey ones were there from the start, the others were born: from "
    "the elite that a line leads to, dashed where it was dead by then; without a line, from fresh weights. A cross is "
    "a death. Point at a bar for its story."
)


def life(report: Report) -> Html:
    """The section with the pools of the best variants that have any; nothing where none has."""
    chosen = {v.id: v for v in (report.best_variant, report.leader) if v is not None and v.lives}
    if not chosen:
        return Html("")
    parts = [part for variant in chosen.values() for part in _of(variant)]
    return tag("section", tag("h2", "Life of the pools", id="life"), tag("p", NOTE, class_="soft"), *parts)


def _of(variant: Variant) -> list[Html]:
    return [tag("h3", variant.id), *pools(variant.lives, variant.steps)]


def pools(lives: Sequence[Lived], steps: int) -> list[Html]:
    """A picture of each pool over so many steps, and a table of all lives."""
    names = list(dict.fromkeys(lived.pool for lived in lives))
    figures = [_figure(name, [lived for lived in lives if lived.pool == name], steps) for name in names]
    rows = [(f"{x.pool} {x.name}", str(x.slot), str(x.born), _origin(x), _end(x), x.cause) for x in lives]
    columns = ("pseudopod", "slot", "born", "parents", "died", "cause")
    return [*figures, folded(f"{len(lives)} lives", table("Every pseudopod that lived", columns, rows))]


def _origin(lived: Lived) -> str:
    return lived.parent or ("fresh" if lived.born else "the start")


def _end(lived: Lived) -> str:
    return "lives" if lived.died is None else str(lived.died)


def _figure(pool: str, lives: Sequence[Lived], steps: int) -> Html:
    across = Scale(0.0, float(max([steps, 1, *(x.died or x.born for x in lives)])), LEFT, RIGHT)
    row_of = {slot: TOP + ROW * row for row, slot in enumerate(sorted({x.slot for x in lives}))}
    bottom, by_name = TOP + ROW * len(row_of), {x.name: x for x in lives}
    columns = ticks(across.low, across.high, 5)
    drawing = tag(
        "svg",
        tag("path", d="".join(f"M{across(x):.1f} {TOP:.0f}V{bottom:.0f}" for x in columns), class_="axis"),
        *(tag("text", str(slot), x=LEFT - 6, y=f"{y + BAR:.1f}", text_anchor="end") for slot, y in row_of.items()),
        *(_descent(x, by_name[x.parent], across, row_of) for x in lives if x.parent in by_name),
        *(_bar(x, across, row_of) for x in lives),
        *(tag("text", f"{x:g}", x=f"{across(x):.1f}", y=bottom + 16, text_anchor="middle") for x in columns),
        tag("text", "steps", x=(LEFT + RIGHT) / 2, y=bottom + 34, text_anchor="middle", class_="name"),
        viewBox=f"0 0 {WIDTH} {bottom + 40:.0f}",
        role="img",
        aria_label=f"{len(lives)} pseudopods in the slots of {pool} over {steps} steps",
        class_="wide",
    )
    return tag("figure", drawing, tag("figcaption", pool), class_="plane")


def _bar(lived: Lived, across: Scale, row_of: dict[int, float]) -> Html:
    start, y = across(lived.born), row_of[lived.slot]
    end = across(across.high if lived.died is None else lived.died)
    ended = "lives on" if lived.died is None else f"died at {lived.died} ({lived.cause})"
    title = tag("title", f"{lived.name}: from {_origin(lived)}, born at {lived.born}, {ended}")
    look = "lived born" if lived.born else "lived"
    size = {"x": f"{start:.1f}", "y": f"{y:.1f}", "width": f"{max(end - start - GAP, 1.0):.1f}", "height": BAR}
    cross = f"M{end - 3:.1f} {y + 2:.1f}l6 7m0 -7l-6 7"
    return joined(
        [tag("rect", title, **size, class_=look), tag("path", d=cross, class_="failed") if lived.died else None]
    )


def _descent(child: Lived, parent: Lived, across: Scale, row_of: dict[int, float]) -> Html:
    """A line from a parent's bar to its child's first step; from where the parent's ended, if that was before."""
    is_late = parent.died is not None and parent.died < child.born
    begin = across(parent.died if is_late and parent.died is not None else child.born)
    start, end = row_of[parent.slot] + BAR / 2, row_of[child.slot] + BAR / 2
    line = f"M{begin:.1f} {start:.1f}L{across(child.born):.1f} {end:.1f}"
    return tag("path", d=line, class_="descent late" if is_late else "descent")
