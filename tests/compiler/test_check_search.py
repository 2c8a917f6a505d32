"""Faults of what a document says of a search."""

from __future__ import annotations

import pytest

from evo.compiler.check import check
from evo.dsl.document import parse

DOCUMENT = "evo: 1\norganism: {width: 16, stages: [{name: a, mix: {kind: convolution}}]}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train: {steps: 9}\nevolve: {fidelity: {kind: asha, rungs: 3, eta: 3}}", []),
        ("train: {steps: 8}\nevolve: {fidelity: {kind: asha, rungs: 3, eta: 3}}", [("EVO362", "warning")]),
        ("evolve: {measures: [attention_span, gradient_flow]}", []),
        ("evolve: {measures: [attention_span, gradient_flow, attention_span]}", [("EVO362", "error")]),
    ],
)
def test_rungs_have_a_step_and_measures_are_different(text: str, found: list[tuple[str, str]]) -> None:
    """A rung of less than a step is warned of; one measure cannot be two axes."""
    assert [(fault.code, fault.severity) for fault in check(parse(DOCUMENT + text))] == found
