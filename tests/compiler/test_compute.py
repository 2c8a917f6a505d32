"""Training compute: budgets in FLOPs, tokens and steps say the same thing about one document."""

from __future__ import annotations

import pytest

from evo.compiler.compute import budget_of, step_flops, step_tokens, steps_of, whole_steps
from evo.compiler.resolve import resolve
from evo.dsl.budget import TokensBudget
from evo.dsl.document import Document, from_data


def document(width: int = 32, longest: int = 32, **train: object) -> Document:
    """An organism of one layer."""
    stages = [{"name": "body", "mix": {"kind": "attention", "heads": 2}}]
    organism = {"width": width, "context": longest, "stages": stages}
    return from_data({"evo": 1, "organism": organism, "train": {"batch": 4, **train}}).document


def test_a_step_costs_three_forward_passes_a_token() -> None:
    """Backward counts twice the forward pass; tokens are rows times context."""
    made = document()
    assert step_tokens(made) == 4 * 32
    assert step_flops(made) == 3 * 128 * resolve(made.organism).flops_per_token


def test_a_shorter_training_context_costs_less_attention() -> None:
    """What counts is the context that is trained on, not the longest that the organism can read."""
    short = document(longest=128, context=32)
    assert step_tokens(short) == step_tokens(document())
    assert step_flops(short) == step_flops(document())


@pytest.mark.parametrize("steps", [1, 7, 80, 12_345])
def test_steps_are_their_own_budget(steps: int) -> None:
    """A document is trained for the steps it names, and FLOPs or tokens that are as many give as many steps."""
    named = document(steps=steps)
    assert steps_of(named) == whole_steps(budget_of(named), named) == steps
    assert steps_of(document(budget={"flops": steps * step_flops(named)})) == steps
    assert steps_of(document(budget={"tokens": float(steps * step_tokens(named))})) == steps


def test_a_cheaper_organism_trains_for_longer() -> None:
    """At equal FLOPs, steps times FLOPs a step agree to half a step; at equal tokens steps are the same."""
    seed, narrow = document(64, steps=500), document(16)
    steps = whole_steps(budget_of(seed), narrow)
    assert steps > 500
    assert abs(steps * step_flops(narrow) - budget_of(seed).amount) <= step_flops(narrow) / 2
    assert whole_steps(TokensBudget(tokens=500.0 * step_tokens(seed)), narrow) == 500


def test_there_is_always_a_step() -> None:
    """An organism that costs more than the budget is trained for one step."""
    assert steps_of(document(budget={"flops": 1.0})) == 1
