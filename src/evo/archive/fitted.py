"""Centroids fitted to a sample of points: Lloyd iterations under simulated annealing.

A sample of some dozen points is smoothed first (a kernel density estimate with Scott's bandwidth, so that cells lie
between and around the points too). Each iteration then moves the centroids to the means of their cells and jolts them
with a noise that cools down geometrically: stochastic relaxation of a vector quantiser (Zeger, Vaisey and Gersho 1992,
https://doi.org/10.1109/78.124944), which gets out of the local optima of Lloyd's algorithm. The best centroids by mean
squared distance are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from evo.base.streams import Stream

ITERATIONS = 24
PLAIN = 6
"""The last iterations, without noise."""
COOLING = 0.8
CLOUD_LEAST = 4_096
CLOUD_PER_CELL = 20
WIDTH_LEAST = 0.02
"""A measure whose spread is smaller counts as if it had this spread, so that rounding makes no cells."""

Floats = NDArray[np.float64]


def spread(sample_NM: Floats) -> tuple[Floats, Floats]:
    """(low, high), (M,) each: the 5 % and 95 % quantiles of each measure, at least `WIDTH_LEAST` apart."""
    low_M, high_M = np.quantile(sample_NM, (0.05, 0.95), axis=0)
    middle_M, half_M = (low_M + high_M) / 2, np.maximum(high_M - low_M, WIDTH_LEAST) / 2
    return middle_M - half_M, middle_M + half_M


def smoothed(sample_NM: Floats, count: int, stream: Stream) -> Floats:
    """(count, M) points of a kernel density estimate of a sample, with Scott's bandwidth along each measure."""
    rng = stream.numpy()
    count_N, dims = sample_NM.shape
    width_M = sample_NM.std(axis=0) * count_N ** (-1.0 / (dims + 4))
    return sample_NM[rng.integers(count_N, size=count)] + rng.normal(size=(count, dims)) * width_M


def fitted(cells: int, cloud_NM: Floats, stream: Stream) -> Floats:
    """Centroids (cells, M) that lie close to the points of a cloud (N, M), N >= cells; a pure function.

    The start is some of the points. The noise begins at the root mean squared distance of a point to its centroid.
    """
    rng = stream.numpy()
    present_CM = cloud_NM[rng.permutation(len(cloud_NM))[:cells]].copy()
    best_CM, best = present_CM.copy(), np.inf
    heat = 1.0
    for iteration in range(ITERATIONS):
        distance_N, nearest_N = KDTree(present_CM, balanced_tree=False, compact_nodes=False).query(cloud_NM)
        error = float(np.square(distance_N).mean())
        if error < best:
            best_CM, best = present_CM.copy(), error
        present_CM = _means(present_CM, cloud_NM, np.asarray(nearest_N, dtype=np.int64))
        if iteration < ITERATIONS - PLAIN:
            heat *= COOLING
            present_CM += rng.normal(size=present_CM.shape) * heat * np.sqrt(error / cloud_NM.shape[1])
        elif iteration == ITERATIONS - PLAIN:
            present_CM = best_CM.copy()
    return best_CM


def _means(present_CM: Floats, cloud_NM: Floats, nearest_N: NDArray[np.int64]) -> Floats:
    """The mean of the points of each cell; a cell without points goes to a point of the fullest cells."""
    cells = len(present_CM)
    counts_C = np.bincount(nearest_N, minlength=cells)
    sums_CM = np.stack([np.bincount(nearest_N, column_N, minlength=cells) for column_N in cloud_NM.T], axis=1)
    means_CM = sums_CM / np.maximum(counts_C, 1)[:, None]
    empty = np.flatnonzero(counts_C == 0)
    if len(empty):
        order_N = np.argsort(-counts_C[nearest_N], kind="stable")
        means_CM[empty] = cloud_NM[order_N[np.linspace(0, len(order_N) // 2, len(empty)).astype(int)]]
    return means_CM
