"""Coolings: temperatures fall as their formula says, and resuming is replaying."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.dsl.coolings import CosineCooling, GeometricCooling, LinearCooling, ReheatingCooling, StartedCooling
from evo.dsl.index import kind_class, kinds

STARTS = st.floats(1e-9, 100.0)
LENGTHS = st.integers(1, 200)


def cooling(kind: str, start: float) -> StartedCooling:
    """A cooling of a kind, all but its start left as it is."""
    made = kind_class("cooling", kind)(start=start)  # pyright: ignore[reportCallIssue]
    assert isinstance(made, StartedCooling)
    return made


@pytest.mark.parametrize("kind", kinds("cooling"))
@given(start=STARTS, length=LENGTHS, generation=st.integers(0, 400))
def test_a_temperature_lies_between_zero_and_the_start(kind: str, start: float, length: int, generation: int) -> None:
    """Every cooling begins at its start and stays within [0, start], past its end too."""
    made = cooling(kind, start)
    assert made.temperature(0, length) == start
    assert 0.0 <= made.temperature(generation, length) <= start * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["linear", "geometric", "cosine"])
@given(start=STARTS, length=LENGTHS)
def test_plain_coolings_never_rise(kind: str, start: float, length: int) -> None:
    """Linear, geometric and cosine temperatures never rise, whatever the history."""
    made = cooling(kind, start)
    temperatures = [made.temperature(g, length, [False] * g) for g in range(length + 3)]
    assert all(b <= a for a, b in pairwise(temperatures))


def test_formulas() -> None:
    """The coolings give the numbers of their formulas."""
    assert LinearCooling(start=2.0).temperature(2, 8) == pytest.approx(1.5)
    assert LinearCooling(start=2.0).temperature(8, 8) == 0.0
    assert GeometricCooling(start=2.0, ratio=0.01).temperature(5, 10) == pytest.approx(0.2)
    assert GeometricCooling(start=2.0, ratio=0.01).temperature(10, 10) == pytest.approx(0.02)
    assert CosineCooling(start=2.0).temperature(4, 8) == pytest.approx(1.0)
    assert CosineCooling(start=2.0).temperature(2, 8) == pytest.approx(1.0 + math.sqrt(0.5))


def test_reheating_by_hand() -> None:
    """Two stuck generations in a row reheat to half of the start, and the count begins anew."""
    made = ReheatingCooling(start=1.0, cooling=0.5, patience=2, reheat=0.5)
    history = [True, False, False, False, False, True]
    found = [made.temperature(g, 100, history) for g in range(7)]
    assert found == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.25, 0.5, 0.25])


def test_reheating_never_cools_by_reheating() -> None:
    """A reheat below the present temperature leaves it as it is."""
    made = ReheatingCooling(start=1.0, cooling=0.9, patience=1, reheat=0.1)
    assert made.temperature(1, 10, [False]) == pytest.approx(0.9)


@given(st.lists(st.booleans(), max_size=60), st.data())
def test_resume_is_replay(history: list[bool], data: st.DataObject) -> None:
    """A temperature depends on the history before it and on nothing later, so replay gives the same."""
    generation = data.draw(st.integers(0, len(history)))
    made = ReheatingCooling(start=1.0)
    assert made.temperature(generation, 60, history) == made.temperature(generation, 60, history[:generation])
