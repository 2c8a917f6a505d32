"""The objective: bounded, monotone, a half at the reference, and weighted as asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parents import document

from evo.compiler.resolve import resolve
from evo.dsl.evolve import FitnessSpec
from evo.dsl.task import Score
from evo.evolution.fitness import Reference, Terms, cost_of, fitness
from evo.tasks.bytes.spec import BytesSpec

PLAN = resolve(document().organism)
WIDE = resolve(document(width=64).organism)
REFERENCE = Reference(BytesSpec.primary, 2.5, cost_of(PLAN))
ACCURACY = Score("accuracy", False, 0.1, "share")
Weight = st.floats(0, 100)


def scored(bits: float = 2.5, relevance: float = 0.5, plan: object = PLAN, weights: FitnessSpec | None = None) -> Terms:
    """The terms against the reference."""
    scores = {"bits_per_byte": bits, "gradient_evenness": relevance}
    return fitness(scores, plan, REFERENCE, weights or FitnessSpec())  # type: ignore[arg-type]


def task_term(score: Score, value: float, reference: float) -> float:
    """The task term of a value against a reference."""
    scores = {score.name: value, "gradient_evenness": 0.5}
    return fitness(scores, PLAN, Reference(score, reference, cost_of(PLAN)), FitnessSpec()).task


def test_the_reference_is_a_half() -> None:
    """The reference itself scores 1/2 in task and efficiency, and the objective is the weighted mean."""
    terms = scored(relevance=0.9)
    assert (terms.task, terms.efficiency, terms.gradient) == (0.5, 0.5, 0.9)
    assert terms.objective == pytest.approx(0.7 * 0.5 + 0.2 * 0.5 + 0.1 * 0.9)


@given(st.floats(0, 1e300), st.floats(0, 1), st.tuples(Weight, Weight, Weight))
def test_terms_stay_in_the_unit_interval(bits: float, relevance: float, weights: tuple[float, float, float]) -> None:
    """Whatever the score, however absurd, and whatever the weights, even all zero: every term is in [0, 1]."""
    task, efficiency, gradient = weights
    terms = scored(bits, relevance, weights=FitnessSpec(task=task, efficiency=efficiency, gradient=gradient))
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in (terms.task, terms.efficiency, terms.gradient, terms.objective))


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_fewer_bits_are_never_worse(one: float, two: float) -> None:
    """The task term falls as bits per byte rise."""
    low, high = sorted((one, two))
    assert scored(low).task >= scored(high).task
    assert scored(2.4).objective > scored(2.5).objective > scored(2.6).objective


def test_cost_counts_against() -> None:
    """A wider model is less efficient, one half the cost more; relevance counts for."""
    assert cost_of(WIDE) > cost_of(PLAN)
    assert scored(plan=WIDE).efficiency < 0.5
    assert scored(relevance=0.6).objective > scored(relevance=0.5).objective


def test_two_per_cent_of_bits_are_worth_half_the_cost() -> None:
    """The exchange rate that the docstring of the sharpness names."""
    gain = 0.7 * (scored(2.5 * 0.98).task - 0.5)
    halved = 0.2 * (1 / (1 + 0.5) - 0.5)
    assert gain == pytest.approx(halved, rel=0.2)


def test_weights_are_relative() -> None:
    """Scaling all weights changes nothing; a weight of zero leaves its term out."""
    assert scored(2.2, weights=FitnessSpec(task=7, efficiency=2, gradient=1)).objective == pytest.approx(
        scored(2.2).objective
    )
    assert scored(2.2, weights=FitnessSpec(task=1, efficiency=0, gradient=0)).objective == scored(2.2).task


def test_no_number_never_wins() -> None:
    """A score that is no number gives no objective that compares as better than any other."""
    terms = scored(math.nan)
    assert not terms.objective > 0.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_higher_is_better_where_the_task_says_so(one: float, two: float) -> None:
    """With an accuracy the task term rises with the score, and is a half at the reference."""
    low, high = sorted((one, two))
    assert task_term(ACCURACY, low, 0.4) <= task_term(ACCURACY, high, 0.4)
    assert task_term(ACCURACY, 0.4, 0.4) == 0.5
    assert task_term(ACCURACY, 0.41, 0.4) == pytest.approx(1 / (1 + (0.4 / 0.41) ** 8))


def test_a_reference_of_zero() -> None:
    """Text learnt perfectly, or a task not done at all: equal is a half, and nothing divides by zero."""
    assert task_term(BytesSpec.primary, 0.0, 0.0) == task_term(ACCURACY, 0.0, 0.0) == 0.5
    assert task_term(BytesSpec.primary, 0.1, 0.0) == pytest.approx(0.0)
    assert task_term(BytesSpec.primary, 0.0, 0.1) == 1.0
    assert task_term(ACCURACY, 0.1, 0.0) == 1.0
    assert task_term(ACCURACY, 0.0, 0.1) == pytest.approx(0.0)
    assert math.isfinite(task_term(BytesSpec.primary, 8.0, 5e-324))
