"""The space of an archive: which measures span it, how they are scaled, and where its cells lie."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evo.archive.centroids import centroids
from evo.archive.fitted import CLOUD_LEAST, CLOUD_PER_CELL, fitted, smoothed, spread
from evo.base.streams import Stream
from evo.dsl.centroids import CentroidsSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """measures: their names. low, high: what is scaled to 0 and 1; points may lie outside. centroids: unscaled."""

    measures: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]

    def scaled(self, points: Sequence[Sequence[float]]) -> Floats:
        """(N, M) points in the units in which distances are taken."""
        low_M, high_M = np.array(self.low), np.array(self.high)
        return (np.asarray(points, dtype=np.float64).reshape(-1, len(self.measures)) - low_M) / (high_M - low_M)

    def to_data(self) -> dict[str, Any]:
        """Plain data that JSON keeps exactly."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Space:
        """The inverse of `to_data`."""
        names, low, high = (tuple(data[key]) for key in ("measures", "low", "high"))
        return cls(names, low, high, tuple(map(tuple, data["centroids"])))


def make_space(
    spec: CentroidsSpec, measures: tuple[str, ...], cells: int, sample_NM: Floats | None, stream: Stream
) -> Space:
    """The space of a search. sample_NM: what trained organisms are expected to show; None where nobody was asked."""
    module, _, name = spec.builder.partition(":")
    return getattr(importlib.import_module(module), name)(spec, measures, cells, sample_NM, stream)


def uniform_space(
    spec: CentroidsSpec, measures: tuple[str, ...], cells: int, sample_NM: Floats | None, stream: Stream
) -> Space:
    """Cells of equal volume in the unit box."""
    del spec, sample_NM
    count = len(measures)
    found = centroids(cells, [(0.0, 1.0)] * count, stream)
    return Space(measures, (0.0,) * count, (1.0,) * count, tuple(map(tuple, found.tolist())))


def fitted_space(
    spec: CentroidsSpec, measures: tuple[str, ...], cells: int, sample_NM: Floats | None, stream: Stream
) -> Space:
    """Cells where a sample is, which are those of the unit box where there is none."""
    if sample_NM is None:
        return uniform_space(spec, measures, cells, None, stream)
    low_M, high_M = spread(sample_NM)
    count = max(CLOUD_LEAST, CLOUD_PER_CELL * cells)
    cloud_NM = np.clip(smoothed(sample_NM, count, stream.child("cloud")), 0.0, 1.0)
    found_CM = fitted(cells, (cloud_NM - low_M) / (high_M - low_M), stream.child("fit"))
    points = low_M + found_CM * (high_M - low_M)
    return Space(measures, tuple(low_M.tolist()), tuple(high_M.tolist()), tuple(map(tuple, points.tolist())))
