"""Which operators paid, with how sure that is."""

from __future__ import annotations

import math

from evo.dsl.task import Score
from evo.report.page.figures import decimals, percent, signed, whole
from evo.report.page.markup import Html, tag
from evo.report.page.tables import table
from evo.report.record import Credit, Report


def operators(report: Report) -> Html:
    """The section with the table: first who helped most surely, by the worse end of the interval."""
    found = sorted(report.operators, key=lambda credit: _cost(credit, report.primary))
    if not found:
        return tag("section", tag("h2", "Operators"), tag("p", "No child was made.", class_="soft"))
    caption = (
        "Children by the operators that made them; a child of several counts for each. Change: mean over the children "
        f"that did not fail, against the first parent, in {report.primary.label}, with its 95 % interval; "
        f"{report.primary.comparative} is better. Sorted by the worse end of the interval, so that luck with one child "
        "leads nothing."
    )
    note = (
        "Children train on from their parents' weights, so an operator that changes nothing would show a gain too: "
        "compare operators with each other, not with zero."
    )
    columns = ("operator", "children", "failed", "better than parent", "share", "mean change", "95 % interval")
    return tag(
        "section",
        tag("h2", "Operators", id="operators"),
        tag("p", note, class_="soft") if report.inherits else None,
        table(caption, columns, [_row(credit) for credit in found]),
    )


def _cost(credit: Credit, primary: Score) -> tuple[float, float, str]:
    """The worse end of the interval; without one after all that have one, by the mean."""
    change = math.inf if credit.mean_change is None else primary.cost(credit.mean_change)
    return (math.inf if credit.half_width is None else change + credit.half_width, change, credit.operator)


def _row(credit: Credit) -> list[str]:
    width = credit.half_width
    return [
        credit.operator,
        whole(credit.children),
        whole(credit.failed),
        whole(credit.better_than_parent),
        percent(credit.better_than_parent / credit.children, 0),
        signed(credit.mean_change),
        "one child" if width is None else f"\N{PLUS-MINUS SIGN}{decimals(width)}",
    ]
