"""Where the best variant came from: the steps of its line, and all of them together as one patch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from evo.dsl.task import Score
from evo.report.page.figures import decimals, short, signed
from evo.report.page.markup import Html, joined, tag
from evo.report.page.tables import link, table
from evo.report.record import Report, Step, Variant

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


def lineage(report: Report) -> Html:
    """The section with the line of first parents, from the seed to the best."""
    heading, line = tag("h2", "Lineage of the best", id="lineage"), report.lineage
    if not line:
        return tag("section", heading, tag("p", "There is no best variant.", class_="soft"))
    steps = [_step(line[0], None, report), *(_step(child, parent, report) for parent, child in pairwise(line))]
    signs = [joined([tag("code", sign), meaning]) for sign, meaning in MEANINGS]
    note = joined(["First parents, from the seed down to the best. In patches, ", *signs])
    return tag("section", heading, tag("p", note, class_="soft"), tag("ol", *steps, class_="line-of-descent"))


def _step(step: Step, parent: Step | None, report: Report) -> Html:
    variant = report.by_id[step.id]
    others = variant.parents[1:]
    head = [
        tag("b", link(variant)),
        tag("span", ", ".join(step.operators) or "seed"),
        joined(["with ", *(link(report.by_id[other]) for other in others)]) if others else None,
        tag("span", f"{decimals(step.score)} {report.primary.label}"),
        None if parent is None else _change(step.score, parent.score, report.primary),
    ]
    return tag("li", tag("div", *_spans(head), class_="step"), patch(step.patch) if step.patch else None)


def _spans(parts: list[Html | None]) -> list[Html]:
    return [tag("span", part) for part in parts if part is not None]


def _change(score: float, before: float, primary: Score) -> Html:
    mood = "good" if primary.is_better(score, before) else "bad"
    return tag("span", f"{signed(score - before)} against its parent", class_=mood)


def against_seed(report: Report) -> Html:
    """The section with the best beside the seed of its line: the figures, and the patch between them."""
    heading, best, seed = tag("h2", "The best against its seed", id="diff"), report.best_variant, report.own_seed
    if best is None or seed is None:
        return tag("section", heading, tag("p", "There is no best variant.", class_="soft"))
    if best.id == seed.id:
        return tag("section", heading, tag("p", "The best variant is a seed.", class_="soft"))
    text = report.diff_from_seed
    shown = patch(text) if text else tag("p", "No difference.", class_="soft")
    parent = report.by_id[best.parents[0]]
    return tag("section", heading, shown, _compared(seed, parent, best, report.primary))


def _compared(seed: Variant, parent: Variant, best: Variant, primary: Score) -> Html:
    """Why it won: the terms of its objective and the parts of its cost, beside its parent's and its seed's."""
    figures: list[tuple[str, Callable[[Variant], float | None], Callable[[float | None], str]]] = [
        (f"held-out {primary.label}", lambda v: v.score, decimals),
        ("objective", lambda v: v.objective, decimals),
        ("task term", lambda v: v.terms and v.terms.task, decimals),
        ("efficiency term", lambda v: v.terms and v.terms.efficiency, decimals),
        ("gradient term", lambda v: v.terms and v.terms.gradient, decimals),
        ("FLOPs/token", lambda v: v.flops_per_token, short),
        ("parameters", lambda v: v.parameters, short),
        ("cached values, full context", lambda v: v.held_values - v.parameters, short),
        ("steps trained", lambda v: v.steps, short),
    ]
    shown = list(dict.fromkeys((seed.id, parent.id, best.id)))
    by_id = {variant.id: variant for variant in (seed, parent, best)}
    rows = [[name, *(spell(of(by_id[id])) for id in shown), _ratio(of(seed), of(best))] for name, of, spell in figures]
    note = "At equal compute: the seed, the parent, and the best; the ratio is of best to seed."
    return table(note, ("", *shown, "ratio"), rows)


def _ratio(before: float | None, after: float | None) -> str:
    return decimals(after / before if before and after is not None else None, 3)
