"""Power laws: what made the points is found again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evo.base.power_laws import PowerLaw, fit

AMOUNTS = [1e9 * 4.0**n for n in range(12)]


def test_a_plain_law_is_the_line_through_the_logarithms() -> None:
    """Noisy points give numpy's least-squares line."""
    noise = np.random.default_rng(0).normal(scale=0.02, size=12)
    losses = [8.0 * x**-0.11 * math.exp(e) for x, e in zip(AMOUNTS, noise, strict=True)]
    law = fit(AMOUNTS, losses, may_break=False)
    slope, height = np.polyfit(np.log(AMOUNTS), np.log(losses), 1)
    assert law.slope == pytest.approx(-slope, rel=1e-9)
    assert math.log(law.scale) == pytest.approx(height, rel=1e-9)
    assert (law.floor, law.is_broken) == (0.0, False)


def test_a_floor_is_found() -> None:
    """A loss that no compute removes is told from the rest, and is not looked for in three points."""
    losses = [1.2 + 90.0 * x**-0.2 for x in AMOUNTS]
    law = fit(AMOUNTS, losses, floor=True)
    assert law.floor == pytest.approx(1.2, rel=0.02)
    assert law(1e20) == pytest.approx(1.2 + 90.0 * 1e20**-0.2, rel=0.01)
    assert fit(AMOUNTS[:3], losses[:3], floor=True).floor == 0.0


def test_a_break_is_found_where_there_is_one() -> None:
    """Equation 1 of Caballero et al. (2022), written out: a law that turns at 1e12 is followed beyond the last point,
    noise makes no break, and few points have none."""

    def broken(x: float) -> float:
        return 40.0 * x**-0.05 * (1 + (x / 1e12) ** (1 / 0.3)) ** (-0.15 * 0.3)

    losses = [broken(x) for x in AMOUNTS]
    law = fit(AMOUNTS, losses)
    assert law.is_broken
    assert law(1e18) == pytest.approx(broken(1e18), rel=0.02)
    noise = np.random.default_rng(1).normal(scale=0.01, size=12)
    assert not fit(AMOUNTS, [9.0 * x**-0.1 * math.exp(e) for x, e in zip(AMOUNTS, noise, strict=True)]).is_broken
    assert not fit(AMOUNTS[:8], losses[:8]).is_broken


def test_a_law_says_what_it_stands_for() -> None:
    """The formula at one point by hand."""
    law = PowerLaw(floor=1.0, scale=2.0, slope=0.5, place=4.0, bend=1.0, width=1.0)
    assert law(16.0) == pytest.approx(1.0 + 2.0 / 4.0 / (1 + 16.0 / 4.0))


@pytest.mark.parametrize(("amounts", "losses"), [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0])])
def test_what_has_no_law_is_refused(amounts: list[float], losses: list[float]) -> None:
    """One amount alone, and a loss without a logarithm."""
    with pytest.raises(ValueError, match="power law"):
        fit(amounts, losses)
