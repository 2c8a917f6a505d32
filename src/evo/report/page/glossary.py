"""The glossary of the page: what its terms mean, a line each. The exact definitions are in the docstrings of
`evo.training.behaviour.Measures` and `evo.evolution.fitness`."""

from __future__ import annotations

from evo.dsl.task import Score
from evo.report.page.markup import Html, tag
from evo.report.record import Report

MEASURES = {
    "attention_span": "the mean distance over which earlier tokens influence an output, as a share of the largest "
    "there could be; 0 where no mixer reaches anywhere",
    "activation_sparsity": "the share of near-zero entries (below 5 % of the tensor's root mean square) in what enters "
    "the projections that write to the residual stream",
    "gradient_flow": "the size of the layers' gradients relative to their weights, geometric mean, on a logarithmic "
    "scale: 0 is a ratio of 1e-4 or less, 1 a ratio of 0.1 or more",
    "memory_locality": "the share of the influence of earlier tokens that comes from the nearest 8",
    "computational_intensity": "forward FLOPs per byte of activations kept for the backward pass, by the plan, on a "
    "logarithmic scale: 0 is 10 or less, 1 is 316 or more",
}
"""Each measure lies in [0, 1] and is taken from the trained model on held-out text."""

TERMS = {
    "objective": "what the search maximises, in [0, 1]: a weighted mean of the task, efficiency and gradient terms",
    "task": "how good the task's score is against the best seed's; 0.5 at the seed's",
    "efficiency": "how low the planned cost (FLOPs, parameters, cache) is against the best seed's; 0.5 at the seed's",
    "gradient": "how evenly the gradient flows through the layers; 1 where every layer receives the same",
    "elite": "the best variant found in a cell of the archive; a cell is all that lies nearest to its centroid",
    "coverage": "the share of the archive's cells that hold an elite",
    "QD score": "the sum of the elites' objectives",
    "temperature": "how readily the working archive accepts a worse variant, and how large mutations are",
}


def glossary(report: Report) -> Html:
    """The section with the terms, and the objective as this run weighed it."""
    meanings = [score_term(report.primary), *TERMS.items()]
    terms = [part for term, meaning in meanings for part in (tag("dt", term), tag("dd", meaning))]
    formula = tag("p", f"The objective of this run: {_formula(report.evolve.fitness.model_dump())}.")
    return tag("section", tag("h2", "Glossary", id="glossary"), tag("dl", *terms, class_="glossary"), formula)


def score_term(primary: Score) -> tuple[str, str]:
    """The primary score's name and what it means."""
    direction = f"{primary.comparative} is better, {primary.uniform:g} is a uniform guess"
    return primary.label, f"the score on held-out data that no candidate trains on; {direction}"


def label(measure: str) -> str:
    """A measure's name in words."""
    return measure.replace("_", " ")


def _formula(weights: dict[str, float]) -> str:
    summed = " + ".join(f"{weight:g} {term}" for term, weight in weights.items())
    total = f"{sum(weights.values()):g}"
    return summed if total == "1" else f"({summed}) / {total}"
