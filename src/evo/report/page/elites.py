"""The elites: the table that a search is for, the best first, each with its document."""

from __future__ import annotations

import math

from evo.report.page.figures import decimals, short
from evo.report.page.markup import Html, joined, tag
from evo.report.page.tables import link, table
from evo.report.record import Report, Variant


def elites(report: Report) -> Html:
    """The section with the table."""
    heading = tag("h2", "Elites", id="elites")
    found = sorted((report.by_id[id] for id in report.cells), key=_place)
    if not found:
        return tag("section", heading, tag("p", "The archive is empty.", class_="soft"))
    columns = (
        *("variant", "cell", report.primary.label, "objective", "parameters", "FLOPs/token", "cached values"),
        *("operators", "document"),
    )
    caption = "The best variant of each cell of the archive, by objective; the best of all is bold."
    rows = [_row(variant, report) for variant in found]
    best = next((index for index, variant in enumerate(found) if variant.id == report.best), None)
    return tag("section", heading, table(caption, columns, rows, best, ids=[variant.id for variant in found]))


def _place(variant: Variant) -> tuple[float, str]:
    return (math.inf if variant.objective is None else -variant.objective, variant.id)


def _row(variant: Variant, report: Report) -> list[str]:
    return [
        link(variant),
        str(report.cells[variant.id]),
        decimals(variant.score),
        decimals(variant.objective),
        short(variant.parameters),
        short(variant.flops_per_token),
        short(variant.held_values - variant.parameters),
        ", ".join(variant.operators) or "seed",
        _document(variant),
    ]


def _document(variant: Variant) -> Html | str:
    if not variant.document:
        return ""
    summary = joined(["YAML", tag("span", f" of {variant.id}", class_="unseen")])
    return tag("details", tag("summary", summary), tag("pre", variant.document, class_="yaml"))
