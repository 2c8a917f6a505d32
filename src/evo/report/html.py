"""report.html: one self-contained page for a person who wants to judge a search. It asks nobody for anything.

Every number of it stands there without scripts; these, kept as files in `page/scripts/`, let pictures and tables be
worked with. The policy names them by their digest, so that nothing else can run, whatever a run's texts hold.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from evo.report.page.archive import archive
from evo.report.page.curves import curves
from evo.report.page.data import data_block
from evo.report.page.elites import elites
from evo.report.page.genealogy import genealogy
from evo.report.page.glossary import glossary
from evo.report.page.headline import headline
from evo.report.page.interactive import front, parallel, sides
from evo.report.page.learning import learning
from evo.report.page.life import life
from evo.report.page.lineage import against_seed, lineage
from evo.report.page.markup import Html, tag
from evo.report.page.next_commands import next_commands
from evo.report.page.operators import operators
from evo.report.page.style import style_sheet
from evo.report.page.tables import everything, snapshots
from evo.report.record import Report

SCRIPTS = ("page", "charts", "marks", "tables", "variant", "sides", "front", "parallel", "start")
"""In the order in which they are read; together they are one script."""
LIVE = "live"
"""What makes a page that is served renew itself."""
SECTIONS = (
    *(curves, learning, elites, front, archive, parallel, genealogy, lineage, against_seed, sides),
    *(life, operators, snapshots, everything, next_commands, glossary),
)


def page(report: Report, *, live: str = "") -> str:
    """The page of a search report. `live` is for one that is served and renews itself: the name of the run's state."""
    script = _script((*SCRIPTS, LIVE) if live else SCRIPTS)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script, bool(live))),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{report.name}: evo search"),
        tag("style", Html(style_sheet())),
    )
    sections = (section(report) for section in SECTIONS)
    content = tag("main", headline(report), *sections, data_block(report), data_state=live or None)
    body = tag("body", content, tag("script", Html(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _script(names: tuple[str, ...]) -> str:
    """The files as one script, whose names are its own."""
    folder = files("evo.report.page").joinpath("scripts")
    texts = [folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in names]
    return '(() => {\n"use strict";\n' + "\n".join(texts) + "})();\n"


def _policy(script: str, may_connect: bool) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    connects = "; connect-src 'self'" if may_connect else ""
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'{connects}"
