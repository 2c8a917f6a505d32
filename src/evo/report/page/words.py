"""The last section: what the words on the page mean."""

from __future__ import annotations

from evo.report.page.glossary import TERMS, score_term
from evo.report.page.markup import Html, tag
from evo.report.page.reading import Reading


def words(reading: Reading) -> Html:
    """The section with the terms, and the objective as this run weighed it."""
    meanings = [score_term(reading.primary), *TERMS.items()]
    terms = [part for term, meaning in meanings for part in (tag("dt", term), tag("dd", meaning))]
    weights: dict[str, float] = reading.report.get("fitness") or {}
    formula = tag("p", f"The objective of this run: {_formula(weights)}.") if weights else None
    return tag("section", tag("h2", "Words", id="words"), tag("dl", *terms, class_="glossary"), formula)


def _formula(weights: dict[str, float]) -> str:
    summed = " + ".join(f"{weight:g} {term}" for term, weight in weights.items())
    total = f"{sum(weights.values()):g}"
    return summed if total == "1" else f"({summed}) / {total}"
