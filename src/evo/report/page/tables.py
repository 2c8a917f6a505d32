"""Tables: of snapshots, generations and variants. Long ones fold away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from evo.dsl.task import Score
from evo.evolution.summary import Summary
from evo.report.page.figures import counted, decimals, percent, short, signed_percent, whole
from evo.report.page.markup import Html, joined, tag
from evo.report.record import Report, Variant

FOLDED = 20
"""Rows from which a table is folded away."""
LISTED = 5
"""Columns beyond which a row becomes a list on a narrow screen."""
WORDS = frozenset({"operators", "parents", "failure", "document"})
"""Columns that hold text and stand flush left."""


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    best: int | None = None,
    ids: Sequence[str] = (),
) -> Html:
    """A table whose first column names its rows; the row `best` is set off.

    ids: of the variants that the rows are about, if they are: scripts let such a table be sorted and filtered. Cells
    say their column, for narrow screens.
    """
    heads = [tag("th", name, scope="col", class_=_column(name, place)) for place, name in enumerate(columns)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(
                tag("td", cell, class_=_column(name, 1), data_of=name)
                for name, cell in zip(columns[1:], row[1:], strict=True)
            ),
            class_="best" if index == best else None,
            data_row=ids[index] if ids else None,
        )
        for index, row in enumerate(rows)
    ]
    whole_table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))
    shown = tag("div", whole_table, class_="scroll")
    look = "listed" if len(columns) > LISTED else None
    return tag("div", tag("p", caption, class_="caption"), shown, class_=look, data_variants=bool(ids))


def _column(name: str, place: int) -> str | None:
    if place == 0:
        return None
    return "words" if name in WORDS else "n"


def folded(summary: str, content: Html, is_open: bool = False) -> Html:
    """Content behind its summary."""
    return tag("details", tag("summary", summary), content, open=is_open)


def link(variant: Variant) -> Html:
    """A variant's id, leading to its file beside the page."""
    return tag("a", variant.id, href=quote(variant.file.lstrip("/")), class_="id")


def snapshots(report: Report) -> Html:
    """The section on what the low-rank snapshots cost and save."""
    taken = [variant for variant in report.variants if variant.snapshot_ratio is not None]
    heading, found = tag("h2", "Snapshots", id="snapshots"), report.snapshots
    if not taken or found is None:
        return tag("section", heading, tag("p", "No snapshot was taken.", class_="soft"))
    rows = [_snapshot(variant) for variant in taken]
    score = report.primary.label
    columns = ("variant", "snapshot bytes", "fp32 bytes", "times smaller", score, "loss after restoring")
    caption = "Loss after restoring: the relative change of the held-out loss, measured on the restored model."
    content = table(caption, columns, rows)
    shown = folded(counted(len(taken), "snapshot"), content) if len(taken) > FOLDED else content
    median, worst = (signed_percent(value, 2) for value in (found.median_increase, found.worst_increase))
    ratio = decimals(found.median_ratio, 1)
    summary = f"The median snapshot is {ratio}x smaller than fp32 and costs {median} in loss; the worst {worst}."
    return tag("section", heading, tag("p", summary), shown)


def _snapshot(variant: Variant) -> list[str]:
    return [
        link(variant),
        whole(variant.scores.get("snapshot_bytes")),
        whole(variant.scores.get("fp32_bytes")),
        f"{decimals(variant.snapshot_ratio, 1)}x",
        decimals(variant.score),
        signed_percent(variant.scores.get("snapshot_increase"), 2),
    ]


def everything(report: Report) -> Html:
    """The section with the numbers behind the charts: every generation and every variant."""
    heading = tag("h2", "All numbers", id="variants")
    content = [
        folded(counted(len(report.generations), "generation"), _generations(report)),
        folded(counted(len(report.variants), "variant"), _variants(report), len(report.variants) <= FOLDED),
    ]
    return tag("section", heading, *content)


def _generation_columns(primary: Score) -> dict[str, Callable[[Summary], str]]:
    """Heading -> how a generation's value under it is spelled."""
    return {
        "generation": lambda s: str(s.generation),
        "tried": lambda s: whole(s.candidates),
        "failed": lambda s: whole(s.failures),
        "coverage": lambda s: percent(s.coverage),
        "QD score": lambda s: decimals(s.qd_score),
        "best objective": lambda s: decimals(s.best_objective),
        f"{primary.superlative} {primary.label}": lambda s: decimals(s.best_score),
        "new or improved": lambda s: whole(s.improved),
        "accepted though worse": lambda s: whole(s.annealed),
        "temperature": lambda s: decimals(s.temperature),
    }


def _generations(report: Report) -> Html:
    columns = _generation_columns(report.primary)
    rows = [[spell(summary) for spell in columns.values()] for summary in report.generations]
    return table("The archive and the best after each generation.", tuple(columns), rows)


def _variants(report: Report) -> Html:
    columns = (
        *("variant", "parents", "operators", report.primary.label, "objective", "parameters", "FLOPs/token"),
        *("inherited", "elite of cell", "failure"),
    )
    rows = [_variant(variant, report) for variant in report.variants]
    ids = [variant.id for variant in report.variants]
    return table(
        "Every candidate in the order it was made, each leading to its file; the best is bold. Inherited: the share of "
        "weights from parents.",
        columns,
        rows,
        None if report.best is None else ids.index(report.best),
        ids,
    )


def _variant(variant: Variant, report: Report) -> list[str]:
    return [
        link(variant),
        ", ".join(variant.parents),
        ", ".join(variant.operators),
        decimals(variant.score),
        decimals(variant.objective),
        short(variant.parameters),
        short(variant.flops_per_token),
        percent(variant.scores.get("inherited"), 0),
        str(report.cells.get(variant.id, "")),
        _failure(variant),
    ]


def _failure(variant: Variant) -> Html | str:
    if not variant.cause:
        return ""
    return joined([tag("b", variant.cause, class_="bad"), f": {variant.message}" if variant.message else None])
