"""report.html: one self-contained page for a person who wants to judge a search. No scripts, no requests."""

from __future__ import annotations

from evo.report.page.archive import archive
from evo.report.page.curves import curves
from evo.report.page.glossary import glossary
from evo.report.page.headline import headline
from evo.report.page.learning import learning
from evo.report.page.lineage import against_seed, lineage
from evo.report.page.markup import Html, tag
from evo.report.page.next_commands import next_commands
from evo.report.page.style import style_sheet
from evo.report.page.tables import everything, operators, snapshots
from evo.report.record import Report

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
SECTIONS = (curves, learning, archive, lineage, against_seed, operators, snapshots, everything, next_commands, glossary)


def page(report: Report) -> str:
    """The page of a search report."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.name}: evo search"),
        tag("style", Html(style_sheet())),
    )
    content = tag("main", headline(report), *(section(report) for section in SECTIONS))
    return f"<!doctype html>\n{tag('html', head, tag('body', content), lang='en')}\n"
