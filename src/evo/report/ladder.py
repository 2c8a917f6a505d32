"""What a ladder shows, for people: a table, sentences, and ladder.html."""

from __future__ import annotations

import math

from evo.base.intervals import Interval
from evo.evolution.ladder.findings import BEYOND, Advantage, Climb, Findings, Range
from evo.report.page.figures import decimals, short, signed, signed_percent, whole
from evo.report.page.ladder import drawing
from evo.report.page.markup import Html, tag
from evo.report.page.style import style_sheet

PAGE = "ladder.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
TRENDS = {
    "grows": "the advantage grows with compute",
    "holds": "the advantage holds",
    "shrinks": "the advantage shrinks with compute, and is still there at the largest size",
    "vanishes": "the advantage vanishes: it is within noise at the largest size",
    "none": "no advantage is shown",
    "reversed": "it is worse",
    "unknown": "the trend is unknown: it takes two sizes and two seeds of each",
}


def rows(found: Findings) -> list[tuple[str, ...]]:
    """A table: a row a contestant and size, the variant's difference from each baseline beside the baseline's score."""
    score = found.primary.label
    table = [("size", "contestant", "parameters", "steps", "FLOPs", score, "variant minus it")]
    for at, size in enumerate(found.sizes):
        for climb in found.climbs:
            own = next(own for own in climb.contestants if own.at == at)
            against = next((a.differences.get(at) for a in found.advantages if a.baseline == climb.name), None)
            numbers = (whole(own.parameters), whole(own.steps), f"{size.flops:.3g}")
            table.append((short(size.parameters), climb.name, *numbers, _scored(climb, at), _spelled(against)))
    return table


def _scored(climb: Climb, at: int) -> str:
    mean = climb.mean(at)
    if mean is None:
        return climb.causes.get(at, "")
    return decimals(mean.mean) + ("" if math.isinf(mean.half_width) else f" ± {decimals(mean.half_width)}")


def _spelled(difference: Interval | None) -> str:
    if difference is None:
        return ""
    return signed(difference.mean) + (
        "" if math.isinf(difference.half_width) else f" ± {decimals(difference.half_width)}"
    )


def conclusions(found: Findings) -> list[str]:
    """One sentence or more a baseline, then one a law."""
    variant, last = found.climbs[0].name, len(found.sizes) - 1
    return [
        *(_against(variant, advantage, last) for advantage in found.advantages),
        *(_law(climb, found) for climb in found.climbs if len(climb.scores) > 1),
    ]


def _against(variant: str, advantage: Advantage, last: int) -> str:
    said = [f"{variant} against {advantage.baseline}: {TRENDS[advantage.trend]}"]
    if (gain := advantage.gains.get(last)) is not None:
        said.append(f"{signed_percent(gain)} at the largest size")
    if advantage.slope is not None:
        said.append(f"{_with_range(advantage.slope, 100)} % for ten times the FLOPs")
    if (equal := advantage.equal_compute) is not None:
        said.append(f"by the laws the baseline needs {equal:.2f} times the FLOPs for the same loss")
    return "; ".join(said)


def _law(climb: Climb, found: Findings) -> str:
    law = climb.law
    if law is None:
        return f"{climb.name}: its losses do not fall by a power law of compute"
    floor = f"{law.floor:.4g} + " if law.floor else ""
    turn = f", {law.slope + law.bend:.4f} from {law.place:.3g} FLOPs on" if law.is_broken else ""
    far = f"{BEYOND * found.sizes[-1].flops:.3g}"
    ahead = "" if climb.ahead is None else f"; {_with_range(climb.ahead)} expected at {far} FLOPs"
    return f"{climb.name}: {floor}{law.scale:.4g} x FLOPs^-{law.slope:.4f}{turn}{ahead}"


def _with_range(number: Range, times: float = 1.0) -> str:
    shown = f"{times * number.value:.4f}" if times == 1.0 else f"{times * number.value:+.2f}"
    if number.low is None or number.high is None:
        return shown
    places = ".4f" if times == 1.0 else "+.2f"
    return f"{shown} ({times * number.low:{places}} to {times * number.high:{places}})"


def page(found: Findings) -> str:
    """The page: sentences, the drawing, the table. It asks nobody for anything, and has no script."""
    names = " and ".join(advantage.baseline for advantage in found.advantages)
    title = f"{found.climbs[0].name} against {names}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}: evo ladder"),
        tag("style", Html(style_sheet())),
    )
    note = (
        f"Held-out {found.primary.label} after equal training FLOPs at each size, on text that no search reads. A dot "
        "is a training, a line a fitted power law. Intervals are of 95 %."
    )
    content = tag(
        "main",
        tag("h1", title),
        *(tag("p", sentence) for sentence in conclusions(found)),
        tag("h2", "Loss against compute"),
        tag("p", note, class_="soft"),
        drawing(found),
        tag("h2", "Trainings"),
        tag("div", _table(rows(found)), class_="scroll"),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', content), lang='en')}\n"


def _table(lines: list[tuple[str, ...]]) -> Html:
    head, *body = lines
    looks = [None, None, *["n"] * (len(head) - 2)]
    top = tag("tr", *(tag("th", text, class_=look, scope="col") for text, look in zip(head, looks, strict=True)))
    own = [tag("tr", *(tag("td", text, class_=look) for text, look in zip(row, looks, strict=True))) for row in body]
    return tag("table", tag("thead", top), tag("tbody", *own))
