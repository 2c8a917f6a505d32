"""Tables: of operators, snapshots, generations and variants. Long ones fold away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from evo.dsl.task import Score
from evo.report.page.curves import generation_number
from evo.report.page.figures import counted, decimals, finite, percent, short, signed, signed_percent, whole
from evo.report.page.markup import Html, joined, tag
from evo.report.page.reading import Reading, Record, parents

FOLDED = 20
"""Rows from which a table is folded away."""
WORDS = frozenset({"operators", "parents", "failure"})
"""Columns that hold text and stand flush left."""


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], best: int | None = None) -> Html:
    """A table whose first column names its rows; the row `best` is set off."""
    heads = [tag("th", name, scope="col", class_=_column(name, place)) for place, name in enumerate(columns)]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=_column(name, 1)) for name, cell in zip(columns[1:], row[1:], strict=True)),
            class_="best" if index == best else None,
        )
        for index, row in enumerate(rows)
    ]
    whole_table = tag("table", tag("caption", caption), tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", whole_table, class_="scroll")


def _column(name: str, place: int) -> str | None:
    if place == 0:
        return None
    return "words" if name in WORDS else "n"


def folded(summary: str, content: Html, is_open: bool = False) -> Html:
    """Content behind its summary."""
    return tag("details", tag("summary", summary), content, open=is_open)


def link(variant: Record | None, otherwise: str = "") -> Html:
    """A variant's id, leading to its file beside the page."""
    if variant is None:
        return tag("span", otherwise, class_="id")
    file = str(variant.get("file") or "")
    return (
        tag("a", str(variant["id"]), href=_beside(file), class_="id")
        if file
        else tag("span", str(variant["id"]), class_="id")
    )


def _beside(file: str) -> str:
    """The address of a file of the run, always relative to the page."""
    return quote(file.lstrip("/"))


def operators(reading: Reading) -> Html:
    """The section on which operators paid."""
    found = sorted(reading.report.get("operators") or [], key=lambda record: _cost(record, reading.primary))
    if not found:
        return tag("section", tag("h2", "Operators"), tag("p", "No child was made.", class_="soft"))
    rows = [_operator(record) for record in found]
    caption = (
        "Children by the operators that made them, the most helpful first; a child of several counts for each. Change: "
        f"mean over the children that did not fail, against the first parent, in {reading.primary.label}; "
        f"{reading.primary.comparative} is better."
    )
    note = (
        "Children train on from their parents' weights, so an operator that changes nothing would show a gain too: "
        "compare operators with each other, not with zero."
    )
    columns = ("operator", "children", "failed", "better than parent", "share", "mean change")
    return tag(
        "section",
        tag("h2", "Operators", id="operators"),
        tag("p", note, class_="soft") if reading.inherits else None,
        table(caption, columns, rows),
    )


def _cost(record: Record, primary: Score) -> tuple[float, str]:
    change = finite(record.get("mean_change"))
    return (float("inf") if change is None else primary.cost(change), str(record.get("operator")))


def _operator(record: Record) -> list[str]:
    children, better = finite(record.get("children")), finite(record.get("better_than_parent"))
    share = better / children if children and better is not None else None
    return [
        str(record.get("operator")),
        whole(children),
        whole(record.get("failed")),
        whole(better),
        percent(share, 0),
        signed(record.get("mean_change")),
    ]


def snapshots(reading: Reading) -> Html:
    """The section on what the low-rank snapshots cost and save."""
    taken = [variant for variant in reading.variants if finite(variant.get("snapshot_bytes"))]
    heading = tag("h2", "Snapshots", id="snapshots")
    if not taken:
        return tag("section", heading, tag("p", "No snapshot was taken.", class_="soft"))
    rows = [_snapshot(variant, reading) for variant in taken]
    columns = (
        "variant",
        "snapshot bytes",
        "fp32 bytes",
        "times smaller",
        reading.primary.label,
        "loss after restoring",
    )
    caption = "Loss after restoring: the relative change of the held-out loss, measured on the restored model."
    content = table(caption, columns, rows)
    shown = folded(counted(len(taken), "snapshot"), content) if len(taken) > FOLDED else content
    return tag("section", heading, _snapshot_summary(reading), shown)


def _snapshot_summary(reading: Reading) -> Html | None:
    found: Record | None = reading.report.get("snapshots")
    if not found:
        return None
    median, worst = (signed_percent(found.get(key), 2) for key in ("median_increase", "worst_increase"))
    ratio = decimals(found.get("median_ratio"), 1)
    return tag("p", f"The median snapshot is {ratio}x smaller than fp32 and costs {median} in loss; the worst {worst}.")


def _snapshot(variant: Record, reading: Reading) -> list[str]:
    ratio = finite(variant.get("snapshot_ratio"))
    return [
        link(variant),
        whole(variant.get("snapshot_bytes")),
        whole(variant.get("fp32_bytes")),
        decimals(ratio, 1) + ("" if ratio is None else "x"),
        decimals(reading.score(variant)),
        signed_percent(variant.get("snapshot_increase"), 2),
    ]


def everything(reading: Reading) -> Html:
    """The section with the numbers behind the charts: every generation and every variant."""
    heading = tag("h2", "All numbers", id="variants")
    content = [
        folded(counted(len(reading.generations), "generation"), _generations(reading)),
        folded(counted(len(reading.variants), "variant"), _variants(reading)),
    ]
    return tag("section", heading, *content)


def _generation_columns(primary: Score) -> dict[str, tuple[str, Callable[[Any], str]]]:
    """Heading -> the key of a generation's summary and how its value is spelled."""
    return {
        "tried": ("candidates", whole),
        "failed": ("failures", whole),
        "coverage": ("coverage", percent),
        "QD score": ("qd_score", decimals),
        "best objective": ("best_objective", decimals),
        f"{primary.superlative} {primary.label}": (f"best_{primary.name}", decimals),
        "new or improved": ("improved", whole),
        "accepted though worse": ("annealed", whole),
        "temperature": ("temperature", decimals),
    }


def _generations(reading: Reading) -> Html:
    columns = _generation_columns(reading.primary)
    rows = [
        [str(generation_number(summary, index)), *(spell(summary.get(key)) for key, spell in columns.values())]
        for index, summary in enumerate(reading.generations)
    ]
    return table("The archive and the best after each generation.", ("generation", *columns), rows)


def _variants(reading: Reading) -> Html:
    columns = (
        *("variant", "parents", "operators", reading.primary.label, "objective", "parameters", "FLOPs/token"),
        *("inherited", "elite of cell", "failure"),
    )
    rows = [_variant(variant, reading) for variant in reading.variants]
    ids = [variant["id"] for variant in reading.variants]
    best = reading.report.get("best")
    return table(
        "Every candidate in the order it was made, each leading to its file; the best is bold. Inherited: the share of "
        "weights from parents.",
        columns,
        rows,
        ids.index(best) if best in ids else None,
    )


def _variant(variant: Record, reading: Reading) -> list[str]:
    return [
        link(variant),
        ", ".join(map(str, parents(variant))),
        ", ".join(map(str, variant.get("operators") or [])),
        decimals(reading.score(variant)),
        decimals(variant.get("objective")),
        short(variant.get("parameters")),
        short(variant.get("flops_per_token")),
        percent(variant.get("inherited"), 0),
        str(reading.cells.get(variant["id"], "")),
        _failure(variant),
    ]


def _failure(variant: Record) -> Html | str:
    cause: Any = variant.get("cause")
    if not cause:
        return ""
    message = variant.get("message")
    return joined([tag("b", str(cause), class_="bad"), f": {message}" if message else None])
