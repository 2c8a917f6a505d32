"""Where a variant stands among the measures."""

from __future__ import annotations

from collections.abc import Sequence

from evo.report.page.figures import finite
from evo.report.record import Report

MAX_CENTROIDS = 2000
"""Centroids drawn in one picture; of more, every so manieth."""


def position(values: Sequence[float], report: Report) -> tuple[float, ...] | None:
    """A point of the archive, each measure within [0, 1]; None where a measure is missing or not finite."""
    numbers = [finite(value) for value in values]
    known = tuple(min(max(number, 0.0), 1.0) for number in numbers if number is not None)
    return known if known and len(known) == len(numbers) == len(report.measures) else None
