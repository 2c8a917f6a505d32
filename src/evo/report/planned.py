"""What the plan of a document says of it in figures, remembered by the document's text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from evo.compiler.compute import step_flops, step_tokens
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.evolution.fitness import held_values

REMEMBERED = 20_000
"""Documents: those of a long run, whose page is made again and again while it goes on."""


@dataclass(frozen=True)
class Planned:
    """Costs by the plan; held_values, step_tokens and step_flops as `Variant` and `Trained` have them."""

    parameters: int
    flops_per_token: float
    held_values: int
    step_tokens: int
    step_flops: float


@lru_cache(maxsize=REMEMBERED)
def planned(text: str) -> Planned:
    """The figures of a document in canonical YAML."""
    document = parse(text).document
    plan = resolve(document.organism)
    return Planned(
        plan.parameters, plan.flops_per_token, held_values(plan), step_tokens(document), step_flops(document)
    )
