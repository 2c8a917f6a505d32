"""The sections that scripts fill: their headings, what they show, and where it goes. Without scripts a line says so."""

from __future__ import annotations

from collections.abc import Callable

from evo.report.page.markup import Html, tag
from evo.report.record import Report

WITHOUT = "This part needs scripts, which are off here; the tables below have its numbers."


def _section(id: str, heading: str, note: str) -> Callable[[Report], Html]:
    def section(report: Report) -> Html:
        place = tag("div", tag("p", WITHOUT, class_="soft"), data_part=id)
        return tag("section", tag("h2", heading, id=id), tag("p", note, class_="soft"), place)

    return section


front = _section(
    "front",
    "Pareto front",
    "Who is beaten by nobody on both axes at once is on the front. Whiskers are the noise of one trial.",
)
parallel = _section(
    "parallel",
    "Parallel coordinates",
    "A line a variant, better ends up where there is one. Draw along an axis to keep what passes there; with the "
    "keyboard, arrows move the upper end, arrows with Shift the lower one, Escape lets go. Tables of variants follow.",
)
sides = _section("sides", "Two variants side by side", "Figures, and the lines in which their documents differ.")
