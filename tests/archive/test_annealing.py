"""Annealing: schedules fall as their formula says, acceptance follows Metropolis, resume is replay."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.archive.annealing import (
    SCHEDULES,
    Cosine,
    Geometric,
    Linear,
    Reheating,
    acceptance_probability,
    mutation_scale,
)

STARTS = st.floats(0.0, 1e3)
LENGTHS = st.integers(1, 200)


@pytest.mark.parametrize("kind", SCHEDULES)
@given(start=STARTS, length=LENGTHS, generation=st.integers(0, 400))
def test_a_temperature_lies_between_zero_and_the_start(kind: str, start: float, length: int, generation: int) -> None:
    """Every schedule begins at T0 and stays within [0, T0], past its end too."""
    schedule = SCHEDULES[kind](start, length)
    assert schedule.temperature(0) == pytest.approx(start)
    assert 0.0 <= schedule.temperature(generation) <= start * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["linear", "geometric", "cosine"])
@given(start=STARTS, length=LENGTHS)
def test_plain_schedules_never_rise(kind: str, start: float, length: int) -> None:
    """Linear, geometric and cosine temperatures never rise, whatever the history."""
    schedule = SCHEDULES[kind](start, length)
    temperatures = [schedule.temperature(g, [False] * g) for g in range(length + 3)]
    assert all(b <= a for a, b in pairwise(temperatures))


def test_formulas() -> None:
    """The schedules give the numbers of their formulas."""
    assert Linear(2.0, 8).temperature(2) == pytest.approx(1.5)
    assert Linear(2.0, 8).temperature(8) == 0.0
    assert Geometric(2.0, 10, ratio=0.01).temperature(5) == pytest.approx(0.2)
    assert Geometric(2.0, 10, ratio=0.01).temperature(10) == pytest.approx(0.02)
    assert Cosine(2.0, 8).temperature(4) == pytest.approx(1.0)
    assert Cosine(2.0, 8).temperature(2) == pytest.approx(1.0 + math.sqrt(0.5))


def test_reheating_by_hand() -> None:
    """Two stuck generations in a row reheat to half of T0, and the count begins anew."""
    schedule = Reheating(1.0, 100, cooling=0.5, patience=2, reheat=0.5)
    history = [True, False, False, False, False, True]
    found = [schedule.temperature(g, history) for g in range(7)]
    assert found == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25])


def test_reheating_never_cools_by_reheating() -> None:
    """A reheat below the present temperature leaves it as it is."""
    schedule = Reheating(1.0, 10, cooling=0.9, patience=1, reheat=0.1)
    assert schedule.temperature(1, [False]) == pytest.approx(0.9)


@given(st.lists(st.booleans(), max_size=60), st.data())
def test_resume_is_replay(history: list[bool], data: st.DataObject) -> None:
    """A temperature depends on the history before it and on nothing later, so replay gives the same."""
    generation = data.draw(st.integers(0, len(history)))
    schedule = Reheating(1.0, 60)
    assert schedule.temperature(generation, history) == schedule.temperature(generation, history[:generation])


@given(st.floats(-10, 10), st.floats(1e-6, 10))
def test_acceptance_is_metropolis(deficit: float, temperature: float) -> None:
    """The better is always accepted, the worse with exp(-deficit / T)."""
    expected = 1.0 if deficit <= 0 else math.exp(-deficit / temperature)
    assert float(acceptance_probability(deficit, temperature)) == pytest.approx(expected)


@given(st.floats(1e-12, 1e300), st.sampled_from([0.0, 5e-324, 1e-300]))
def test_cold_is_elitist(deficit: float, temperature: float) -> None:
    """As T goes to zero no worse variant is accepted and every better one is."""
    np.testing.assert_array_equal(acceptance_probability([deficit, -deficit], temperature), [0.0, 1.0])


def test_a_tie_keeps_the_elder_when_cold() -> None:
    """A tie is refused at zero temperature and accepted above it."""
    assert acceptance_probability(0.0, 0.0) == 0.0
    assert acceptance_probability(0.0, 0.1) == 1.0


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.01, 1))
def test_mutation_scale_is_bounded_and_rises(cool: float, hot: float, floor: float) -> None:
    """The size of mutations lies in [floor, 1] and never falls as the temperature rises."""
    cool, hot = min(cool, hot), max(cool, hot)
    low, high = mutation_scale(cool, 5.0, floor), mutation_scale(hot, 5.0, floor)
    assert floor <= low <= high <= 1.0 + 1e-12


def test_mutation_scale_ends() -> None:
    """Full size at T0, the floor at zero, full size without annealing."""
    assert mutation_scale(0.4, 0.4) == 1.0
    assert mutation_scale(0.0, 0.4) == pytest.approx(0.1)
    assert mutation_scale(0.0, 0.0) == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(-1.0, 5),
        lambda: Linear(float("nan"), 5),
        lambda: Cosine(1.0, 0),
        lambda: Geometric(1.0, 5, ratio=0.0),
        lambda: Reheating(1.0, 5, cooling=1.5),
        lambda: Reheating(1.0, 5, patience=0),
        lambda: acceptance_probability(0.0, -1.0),
        lambda: acceptance_probability(0.0, float("inf")),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    """Settings without meaning raise ValueError when the value is made."""
    assert callable(make)
    with pytest.raises(ValueError, match="not"):
        make()
