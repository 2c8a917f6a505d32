"""Where the best variant came from: the steps of its line, and all of them together as one patch."""

from __future__ import annotations

from itertools import pairwise

from evo.dsl.task import Score
from evo.report.page.figures import decimals, finite, short, signed
from evo.report.page.markup import Html, joined, tag
from evo.report.page.reading import Reading, Record, parents
from evo.report.page.tables import link, table

SIGNS = {"+": "add", "-": "del", "~": "chg"}
MEANINGS = (
    ("+", " sets what was not written before, "),
    ("-", " removes or goes back to the default, "),
    ("~", " changes a value."),
)


def patch(text: str) -> Html:
    """A patch as `evo diff` prints it, its lines coloured by their signs."""
    lines = [tag("span", f"{line}\n", class_=SIGNS.get(line[:1])) for line in text.splitlines()]
    return tag("pre", *lines, class_="patch")


def lineage(reading: Reading) -> Html:
    """The section with the line of first parents, from the seed to the best."""
    heading, line = tag("h2", "Lineage of the best", id="lineage"), reading.lineage
    if not line:
        return tag("section", heading, tag("p", "There is no best variant.", class_="soft"))
    steps = [_step(line[0], None, reading), *(_step(child, parent, reading) for parent, child in pairwise(line))]
    signs = [joined([tag("code", sign), meaning]) for sign, meaning in MEANINGS]
    note = joined(["First parents, from the seed down to the best. In patches, ", *signs])
    return tag("section", heading, tag("p", note, class_="soft"), tag("ol", *steps, class_="line-of-descent"))


def _step(step: Record, parent: Record | None, reading: Reading) -> Html:
    score, before = reading.score(step), reading.score(parent)
    variant = reading.by_id.get(str(step.get("id")))
    others = [] if variant is None else parents(variant)[1:]
    how = ", ".join(map(str, step.get("operators") or [])) or ("seed" if parent is None else "unknown operator")
    head = [
        tag("b", link(variant, str(step.get("id")))),
        tag("span", how),
        joined(["with ", *(link(reading.by_id.get(other), other) for other in others)]) if others else None,
        tag("span", f"{decimals(score)} {reading.primary.label}"),
        None if parent is None else _change(score, before, reading.primary),
    ]
    changes = str(step.get("patch") or "")
    return tag("li", tag("div", *_spans(head), class_="step"), patch(changes) if changes else None)


def _spans(parts: list[Html | None]) -> list[Html]:
    return [tag("span", part) for part in parts if part is not None]


def _change(score: float | None, before: float | None, primary: Score) -> Html:
    if score is None or before is None:
        return tag("span", "change unknown", class_="soft")
    mood = "good" if primary.is_better(score, before) else "bad"
    return tag("span", f"{signed(score - before)} against its parent", class_=mood)


def against_seed(reading: Reading) -> Html:
    """The section with the best beside the seed of its line: the figures, and the patch between them."""
    heading, best, seed = tag("h2", "The best against its seed", id="diff"), reading.best, reading.own_seed
    if best is None or seed is None:
        return tag("section", heading, tag("p", "There is no best variant.", class_="soft"))
    if best["id"] == seed["id"]:
        return tag("section", heading, tag("p", "The best variant is a seed.", class_="soft"))
    text = str(reading.report.get("diff_from_seed") or "")
    shown = patch(text) if text else tag("p", "No difference.", class_="soft")
    return tag("section", heading, shown, _compared(seed, best, reading.primary))


def _compared(seed: Record, best: Record, primary: Score) -> Html:
    figures = [
        (f"held-out {primary.label}", primary.name, decimals),
        ("objective", "objective", decimals),
        ("task term", "task", decimals),
        ("efficiency term", "efficiency", decimals),
        ("gradient term", "gradient", decimals),
        ("parameters", "parameters", short),
        ("FLOPs/token", "flops_per_token", short),
    ]
    rows = [[name, spell(seed.get(key)), spell(best.get(key)), _ratio(seed, best, key)] for name, key, spell in figures]
    return table("Both with the budget of one candidate.", ("", str(seed["id"]), str(best["id"]), "ratio"), rows)


def _ratio(seed: Record, best: Record, key: str) -> str:
    before, after = finite(seed.get(key)), finite(best.get(key))
    return decimals(after / before if before and after is not None else None, 3)
