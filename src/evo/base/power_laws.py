"""Power laws of a loss against what was spent on it: plain, above a floor, and broken (Caballero et al. 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HIGHEST, TRIED, ZOOMS = 0.99, 9, 4
"""The highest floor, as a share of the lowest loss; how many are tried, and how often as many again near the best."""
WIDTHS = (0.1, 0.3, 1.0)
"""Widths of a break that are tried; 0.1 is sharp."""
BREAKS = 12
"""Places of a break that are tried."""
LEAST = {"plain": 2, "floor": 4, "broken": 9}
"""The fewest points that each law is fitted to."""


@dataclass(frozen=True)
class PowerLaw:
    """loss(x) = floor + scale * x^-slope * (1 + (x / place)^(1 / width))^(-bend * width), x in its own unit.

    The last factor is there where the law has a break: from `place` on, the slope is `slope + bend` (arXiv 2210.14891,
    equation 1, with one break). A plain law has none, and a floor of 0.
    """

    floor: float
    scale: float
    slope: float
    place: float = math.inf
    bend: float = 0.0
    width: float = 1.0

    @property
    def is_broken(self) -> bool:
        """Whether it has a break."""
        return bool(self.bend)

    def __call__(self, x: float) -> float:
        """The loss at an amount."""
        return self.floor + math.exp(math.log(self.scale) - self.slope * math.log(x) - self.bend * self._turn(x))

    def _turn(self, x: float) -> float:
        return float(_turned(np.log([x]), math.log(self.place), self.width)[0]) if self.is_broken else 0.0


def fit(amounts: Sequence[float], losses: Sequence[float], *, floor: bool = False, may_break: bool = True) -> PowerLaw:
    """The law with the least squared error in the logarithm of the loss.

    floor: whether an irreducible loss is fitted, where there are 4 points or more. may_break: whether a break may be,
    where there are 9 or more and Akaike's criterion for small samples is for it. Places, widths and floors are tried on
    a grid, the rest is solved for: the same numbers give the same law.

    Raises:
        ValueError: fewer than two different amounts, or a number that is not positive and finite.
    """
    x_N, y_N = np.asarray(amounts, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if not (np.isfinite(x_N).all() and np.isfinite(y_N).all() and (x_N > 0).all() and (y_N > 0).all()):
        raise ValueError("a power law is fitted to positive numbers")
    points, log_x_N, log_y_N = len(np.unique(x_N)), np.log(x_N), np.log(y_N)
    if points < LEAST["plain"]:
        raise ValueError("a power law needs two different amounts")
    floor = floor and points >= LEAST["floor"]
    law, error = _above_floor(log_x_N, log_y_N, floor)
    if may_break and points >= LEAST["broken"]:
        low, high = float(log_x_N.min()), float(log_x_N.max())
        places = [low + (high - low) * number / (BREAKS + 1) for number in range(1, BREAKS + 1)]
        ways = [(place, width) for place in places for width in WIDTHS]
        broken, less = min((_above_floor(log_x_N, log_y_N, floor, way) for way in ways), key=lambda found: found[1])
        if _criterion(less, points, 5 + floor) < _criterion(error, points, 2 + floor):
            return broken
    return law


def _above_floor(
    log_x_N: Floats, log_y_N: Floats, floor: bool, turn: tuple[float, float] | None = None
) -> tuple[PowerLaw, float]:
    """The best law with a break at such a place (a logarithm) of such a width, or none, and its mean squared error."""
    if not floor:
        return _solved(log_x_N, log_y_N, 0.0, turn)
    lowest = float(np.exp(log_y_N.min()))
    low, high, best = 0.0, HIGHEST * lowest, _solved(log_x_N, log_y_N, 0.0, turn)
    for _ in range(ZOOMS):
        tried = np.linspace(low, high, TRIED).tolist()
        best = min([best, *(_solved(log_x_N, log_y_N, own, turn) for own in tried)], key=lambda found: found[1])
        room = (high - low) / (TRIED - 1)
        low, high = max(0.0, best[0].floor - room), min(HIGHEST * lowest, best[0].floor + room)
    return best


def _solved(log_x_N: Floats, log_y_N: Floats, floor: float, turn: tuple[float, float] | None) -> tuple[PowerLaw, float]:
    """The law above a floor by linear least squares, and its mean squared error."""
    place, width = turn or (math.inf, 1.0)
    columns = [np.ones_like(log_x_N), -log_x_N, *([] if turn is None else [-_turned(log_x_N, place, width)])]
    design_NK, y_N = np.stack(columns, axis=1), np.exp(log_y_N)
    # An error of what lies above the floor counts for less in the logarithm of the whole, the nearer the floor is.
    weight_N = 1.0 - floor / y_N
    solved_K = np.linalg.lstsq(design_NK * weight_N[:, None], np.log(y_N - floor) * weight_N, rcond=None)[0]
    error = float(np.square(np.log(floor + np.exp(design_NK @ solved_K)) - log_y_N).mean())
    scale, slope, bend = float(np.exp(solved_K[0])), float(solved_K[1]), float(solved_K[2:].sum())
    return PowerLaw(floor, scale, slope, math.exp(place) if turn else math.inf, bend, width), error


def _turned(log_x_N: Floats, place: float, width: float) -> Floats:
    """width * log(1 + (x / place)^(1 / width)): 0 before the break, log(x / place) behind it."""
    return width * np.logaddexp(0.0, (log_x_N - place) / width)


def _criterion(error: float, points: int, parameters: int) -> float:
    """Akaike's information criterion for small samples (Hurvich and Tsai 1989) of a least-squares fit."""
    k = parameters + 1  # the variance is one too
    return points * math.log(max(error, 1e-30)) + 2 * k + 2 * k * (k + 1) / (points - k - 1)
