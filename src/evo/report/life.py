"""life.html: the life of the pools of one training, beside its metrics."""

from __future__ import annotations

from pathlib import Path

from evo.base.files import write_atomic
from evo.base.rundirs import METRICS
from evo.report.page.life import NOTE, pools
from evo.report.page.markup import Html, tag
from evo.report.page.style import style_sheet
from evo.slime.lives import events_of, lives

FILE = "life.html"


def write_life(folder: Path, name: str, steps: int) -> Path | None:
    """Draw what `metrics.jsonl` in a training's folder tells of pools; None where it tells of none."""
    told = lives(events_of((folder / METRICS).read_bytes().decode(errors="replace").splitlines()))
    if not told:
        return None
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{name}: life of the pools"),
        tag("style", Html(style_sheet())),
    )
    content = tag("main", tag("h1", name), tag("p", NOTE, class_="soft"), *pools(told, steps))
    file = folder / FILE
    write_atomic(file, f"<!doctype html>\n{tag('html', head, tag('body', content), lang='en')}\n")
    return file
