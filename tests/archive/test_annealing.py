"""Annealing: acceptance follows Metropolis, and mutations shrink with the temperature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.archive.annealing import acceptance_probability, mutation_scale


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


@pytest.mark.parametrize("temperature", [-1.0, float("inf"), float("nan")])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    """A temperature without meaning raises ValueError with the value."""
    with pytest.raises(ValueError, match=f"not {temperature}"):
        acceptance_probability(0.0, temperature)
