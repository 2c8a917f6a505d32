"""The space of an archive: fitted cells lie where the sample is, and are filled far better than uniform ones."""

import json

import numpy as np
import pytest

from evo.archive.cvt import CVTArchive
from evo.archive.fitted import fitted, smoothed, spread
from evo.archive.space import Space, make_space
from evo.base.streams import Stream
from evo.dsl.centroids import FittedCentroids, UniformCentroids

NAMES = ("a", "b", "c", "d")
STREAM = Stream(0).child("centroids")


def shown(count: int, seed: int) -> np.ndarray:
    """What organisms show: a bent cloud in a corner of the unit box."""
    rng = np.random.Generator(np.random.Philox(seed))
    x = rng.normal(size=(count, 4)) * (0.1, 0.05, 0.02, 0.04)
    return np.clip(x + (0.6, 0.2, 0.3, 0.1) + 0.5 * x[:, :1] * (0, 1, -1, 0), 0, 1)


def covered(space: Space, points: np.ndarray) -> float:
    """The share of cells that points fall into."""
    archive = CVTArchive(space.scaled(space.centroids))
    return len(set(archive.cell_of(space.scaled(points.tolist())).tolist())) / archive.cells


def test_cells_are_filled_where_organisms_are() -> None:
    """Of 50 cells 200 other points of the same kind fill most; of uniform ones hardly any."""
    sample, points = shown(64, 0), shown(200, 1)
    there = make_space(FittedCentroids(), NAMES, 50, sample, STREAM)
    uniform = make_space(UniformCentroids(), NAMES, 50, sample, STREAM)
    assert covered(there, points) > 0.7
    assert covered(uniform, points) < 0.3
    assert there == make_space(FittedCentroids(), NAMES, 50, sample, STREAM)
    assert there != make_space(FittedCentroids(), NAMES, 50, sample, Stream(1))


def test_without_a_sample_cells_are_uniform() -> None:
    """Where nobody was probed, fitted centroids are the uniform ones."""
    assert make_space(FittedCentroids(), NAMES, 20, None, STREAM) == make_space(
        UniformCentroids(), NAMES, 20, None, STREAM
    )


def test_a_space_is_plain_data() -> None:
    """It comes back from JSON to the last bit, and scales its spread to 0 and 1."""
    space = make_space(FittedCentroids(), NAMES, 12, shown(64, 0), STREAM)
    assert Space.from_data(json.loads(json.dumps(space.to_data()))) == space
    np.testing.assert_allclose(space.scaled([space.low, space.high]), [[0.0] * 4, [1.0] * 4], atol=1e-12)
    low, high = spread(np.array([[0.5, 0.1]] * 9 + [[0.5, 0.9]]))
    assert high[0] - low[0] == pytest.approx(0.02)


def test_annealing_finds_closer_cells_than_lloyd() -> None:
    """The mean squared distance is about that of as many plain Lloyd iterations from one start, on average less."""
    ratios = []
    for seed in range(6):
        cloud = smoothed(shown(64, seed), 3_000, Stream(seed))
        found = fitted(40, cloud, Stream(seed).child("fit"))
        plain = cloud[Stream(seed).child("fit").numpy().permutation(len(cloud))[:40]].copy()
        for _ in range(24):
            nearest = CVTArchive(plain).cell_of(cloud)
            plain = np.stack([cloud[nearest == cell].mean(0) for cell in range(40)])
        ratios.append(error(found, cloud) / error(plain, cloud))
    assert np.mean(ratios) < 1.0
    assert max(ratios) < 1.03


def error(centroids: np.ndarray, cloud: np.ndarray) -> float:
    """The mean squared distance of points to their centroid."""
    return float(((cloud - centroids[CVTArchive(centroids).cell_of(cloud)]) ** 2).sum(1).mean())
