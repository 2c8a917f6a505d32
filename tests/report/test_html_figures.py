"""How the page spells numbers, and where it puts its ticks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.report.page.figures import decimals, duration, short, signed_percent
from evo.report.page.scale import around, spelled, ticks, whole_ticks

NUMBERS = st.floats(-1e9, 1e9, allow_subnormal=False)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.97, "10 s"),
        (59.7, "1 min 00 s"),
        (117.7, "1 min 58 s"),
        (3725, "1 h 02 min"),
        (None, "\N{EN DASH}"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    """A duration never reads 60 s or 60 min."""
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("number", "said"), [(950, "950"), (12345, "12.3 k"), (999_600, "1 M"), (3e18, "3 E"), (0, "0")]
)
def test_counts(number: float, said: str) -> None:
    """A count has three figures and a unit."""
    assert short(number) == said


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "7", True])
def test_what_is_no_number_is_a_dash(value: object) -> None:
    """Nothing on the page reads None or nan."""
    assert decimals(value) == signed_percent(value) == short(value) == "\N{EN DASH}"


@given(st.lists(NUMBERS, max_size=5))
def test_ticks_are_distinct_and_within(values: list[float]) -> None:
    """Any values get an axis with two or more ticks inside it, in order, whose labels differ."""
    scale = around(values, 100.0, 0.0)
    found = ticks(scale.low, scale.high)
    assert scale.low < scale.high
    assert 2 <= len(found) <= 7
    room = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - room <= tick <= scale.high + room for tick in found)
    labels = spelled(found)
    assert len(set(labels)) == len(labels)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_whole_ticks_are_generations(a: int, b: int) -> None:
    """Generations are whole, within the run, and not too many."""
    low, high = min(a, b), max(a, b)
    found = whole_ticks(low, high)
    assert all(low <= tick <= high for tick in found)
    assert 1 <= len(found) <= 8
