"""The last section: what the words on the page mean."""

from __future__ import annotations

from evo.report.page.glossary import TERMS, score_term
from evo.report.page.markup import Html, tag
from evo.report.record import Report


def words(report: Report) -> Html:
    """The section with the terms, and the objective as this run weighed it."""
    meanings = [score_term(report.primary), *TERMS.items()]
    terms = [part for term, meaning in meanings for part in (tag("dt", term), tag("dd", meaning))]
    formula = tag("p", f"The objective of this run: {_formula(report.evolve.fitness.model_dump())}.")
    return tag("section", tag("h2", "Words", id="words"), tag("dl", *terms, class_="glossary"), formula)


def _formula(weights: dict[str, float]) -> str:
    summed = " + ".join(f"{weight:g} {term}" for term, weight in weights.items())
    total = f"{sum(weights.values()):g}"
    return summed if total == "1" else f"({summed}) / {total}"
