"""Means with 95 % intervals, and differences of two means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean, or a difference of means, and half the width of its 95 % interval; infinite where one number is all."""

    mean: float
    half_width: float

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside."""
        return abs(self.mean) > self.half_width

    def __str__(self) -> str:
        return f"{self.mean:+.4f} \N{PLUS-MINUS SIGN} {self.half_width:.4f}"


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of some numbers, by Student's t. Raises ValueError for none."""
    if not values:
        raise ValueError("nothing has no mean")
    if len(values) == 1:
        return Interval(values[0], math.inf)
    return Interval(fmean(values), _quantile(len(values) - 1) * math.sqrt(variance(values) / len(values)))


def difference(one: Sequence[float], two: Sequence[float]) -> Interval:
    """The mean of one sample minus that of another, whose variances may differ (Welch 1947). Raises ValueError for
    none."""
    if not one or not two:
        raise ValueError("nothing has no mean")
    mean = fmean(one) - fmean(two)
    if min(len(one), len(two)) == 1:
        return Interval(mean, math.inf)
    parts = [variance(values) / len(values) for values in (one, two)]
    if not sum(parts):
        return Interval(mean, 0.0)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (one, two), strict=True))
    return Interval(mean, _quantile(freedom) * math.sqrt(sum(parts)))


def drawn_interval(draws: Sequence[float], freedom: int) -> tuple[float, float]:
    """The bounds of a number's 95 % interval by what it is over samples that were drawn anew (bootstrap).

    As much wider than the draws as Student's t is than a normal variable at so many degrees of freedom, without which
    few samples would be taken for many (Hesterberg 2015, expanded percentiles). Raises ValueError for none.
    """
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs] - as below

    if not draws:
        raise ValueError("nothing has no mean")
    ordered, outside = sorted(draws), float(ndtr(-_quantile(freedom)))
    cut = math.floor(outside * (len(ordered) - 1))
    return ordered[cut], ordered[-1 - cut]


def _quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs] - and here, as it takes tenths of a second

    return float(stdtrit(freedom, 0.5 + LEVEL / 2))
