"""Intervals: equal to scipy's own tests, and honest where there is too little to tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evo.base.intervals import difference, mean_interval

ONE, TWO = [2.31, 2.30, 2.33], [2.35, 2.41, 2.36, 2.38]


def test_a_difference_is_welchs() -> None:
    """Half the width is that of scipy's interval for unequal variances."""
    found = difference(ONE, TWO)
    theirs = stats.ttest_ind(ONE, TWO, equal_var=False).confidence_interval(0.95)
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx(tuple(theirs))
    assert found.is_clear
    assert str(found) == f"{found.mean:+.4f} \N{PLUS-MINUS SIGN} {found.half_width:.4f}"


def test_a_mean_has_students_interval() -> None:
    """As scipy's t interval."""
    found = mean_interval(TWO)
    low, high = stats.t.interval(0.95, 3, np.mean(TWO), stats.sem(TWO))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_one_number_tells_nothing() -> None:
    """A single number has no spread: its interval is infinite and nothing is clear; equal numbers have none."""
    assert mean_interval([1.0]).half_width == math.inf
    assert not difference([1.0], TWO).is_clear
    assert difference([1.0, 1.0], [2.0, 2.0]).is_clear
    assert not difference([1.0, 1.0], [1.0, 1.0]).is_clear
    with pytest.raises(ValueError, match="nothing"):
        difference([], ONE)
