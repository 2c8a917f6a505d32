"""Learning curves: few points that leave nothing out, and the same whether the steps before are taken again."""

from __future__ import annotations

import pytest

from evo.training.curve import MOST_POINTS, LossCurve
from evo.training.loop import Progress


def noted(steps: int, after: int = 0, first: int = 1, every: int = 1) -> LossCurve:
    """The curve of a training whose loss is its step, looked at every so many steps and at its end."""
    curve = LossCurve(after)
    for step in range(first, steps + 1):
        if step % every == 0 or step == steps:
            curve.note(Progress(step, steps, float(step), 0, 0.0))
    return curve


@pytest.mark.parametrize("steps", [1, 2, 31, 32, 33, 100, 1000])
def test_a_curve_is_short_and_reaches_the_end(steps: int) -> None:
    """At most so many points, evenly spread in rising steps, the last at the end; each look is in one mean."""
    points = noted(steps).points
    places = [step for step, _ in points]
    assert len(points) == min(steps, MOST_POINTS)
    assert places == sorted(set(places))
    assert places[-1] == steps
    spans = zip([0, *places], places, strict=False)
    assert [loss for _, loss in points] == pytest.approx([(low + 1 + high) / 2 for low, high in spans], abs=1e-4)


def test_steps_of_the_rung_below_are_not_its_own() -> None:
    """A training that goes on from a state and one that takes the steps again leave one curve."""
    assert noted(100, after=40).points == noted(100, after=40, first=41).points
    assert noted(100, after=40).points[0][0] > 40


def test_rare_looks_make_fewer_points() -> None:
    """On an accelerator the loss is looked at now and then: each look is a point at most."""
    points = noted(100, every=16).points
    assert points == ((16, 16.0), (32, 32.0), (48, 48.0), (64, 64.0), (80, 80.0), (96, 96.0), (100, 100.0))
