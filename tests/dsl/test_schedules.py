"""Learning-rate schedules: positive everywhere, peaked at one, and shaped as their names say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo.dsl.schedules import ConstantSchedule, CosineSchedule, ScheduleSpec, WsdSchedule

FRACTIONS = st.floats(0, 1)
SPECS = st.one_of(
    st.builds(WsdSchedule, warmup=FRACTIONS, decay=FRACTIONS),
    st.builds(CosineSchedule, warmup=FRACTIONS, floor=FRACTIONS),
    st.builds(ConstantSchedule, warmup=FRACTIONS),
)


def scales(spec: ScheduleSpec, steps: int) -> list[float]:
    """The whole schedule."""
    return [spec.scale(step, steps) for step in range(steps)]


@given(SPECS, st.integers(1, 300))
def test_no_step_is_wasted(spec: ScheduleSpec, steps: int) -> None:
    """Whatever the fractions, every scale lies in (0, 1]; the schedule rises, then falls, and never rises again."""
    got = scales(spec, steps)
    assert all(0 < scale <= 1 for scale in got)
    top = got.index(max(got))
    assert got[: top + 1] == sorted(got[: top + 1])
    assert got[top:] == sorted(got[top:], reverse=True)


def test_wsd_by_hand() -> None:
    """Ten steps, a fifth of warm-up, two fifths of decay."""
    got = scales(WsdSchedule(warmup=0.2, decay=0.4), 10)
    assert got == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])


def test_cosine_by_hand() -> None:
    """Four steps without warm-up: cosines of 0, 45, 90 and 135 degrees, lifted to the floor."""
    got = scales(CosineSchedule(warmup=0.0, floor=0.1), 4)
    half = 2**0.5 / 2
    assert got == pytest.approx([0.1 + 0.45 * (1 + cosine) for cosine in (1, half, 0, -half)])


def test_constant_by_hand() -> None:
    """One warm-up step, then the peak."""
    assert scales(ConstantSchedule(warmup=0.25), 4) == [0.5, 1, 1, 1]


def test_steps_past_the_end_count_as_the_last() -> None:
    """A run that is trained on keeps the last scale rather than going negative."""
    spec = WsdSchedule(warmup=0.1, decay=0.5)
    assert spec.scale(500, 100) == spec.scale(99, 100) > 0
