"""Principal components of a behaviour space that need not lie on lines (Schoelkopf, Smola & Mueller 1998).

Measures that tell the same in a bent way, so that they hardly correlate, still lie on few components of a kernel.
Values equal scikit-learn's `KernelPCA`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

Floats = NDArray[np.float64]
TINY = 1e-10
"""Components whose eigenvalue is at most so much of the largest are rounding."""


@dataclass(frozen=True)
class KernelSpectrum:
    """What components of a sample hold, the largest first: eigenvalues of the centred kernel of its points."""

    eigenvalues_C: Floats

    @property
    def shares_C(self) -> Floats:
        """Each component's share of the variance in the kernel's space."""
        return self.eigenvalues_C / self.eigenvalues_C.sum()

    def dims(self, share: float = 0.9) -> int:
        """How many components, the largest first, hold a share of the variance."""
        return int(np.searchsorted(np.cumsum(self.shares_C), share - 1e-12)) + 1


@dataclass(frozen=True)
class KernelComponents(KernelSpectrum):
    """Components of a sample, the largest first. points_NC: where the points lie along them."""

    points_NC: Floats


def kernel_pca(sample_NM: Floats, gamma: float | None = None) -> KernelComponents:
    """Components of a sample (N, M) under exp(-gamma |x - y|^2), its columns standardised.

    gamma: 1 / M if left out. A component's sign is such that its largest entry is positive.

    Raises:
        ValueError: fewer than two points, or a measure that does not vary.
    """
    values_N, vectors_NN = np.linalg.eigh(_centred_kernel(sample_NM, gamma))
    kept_C = _kept(values_N)
    values_C, vectors_NC = values_N[kept_C], vectors_NN[:, kept_C]
    largest_C = np.abs(vectors_NC).argmax(axis=0)
    signs_C = np.sign(vectors_NC[largest_C, np.arange(len(kept_C))])
    return KernelComponents(values_C, vectors_NC * signs_C * np.sqrt(values_C))


def kernel_spectrum(sample_NM: Floats, gamma: float | None = None) -> KernelSpectrum:
    """That of `kernel_pca`, in less than half the time."""
    values_N: Floats = np.asarray(np.linalg.eigvalsh(_centred_kernel(sample_NM, gamma)), dtype=np.float64)
    return KernelSpectrum(values_N[_kept(values_N)])


def _centred_kernel(sample_NM: Floats, gamma: float | None) -> Floats:
    spread_M = sample_NM.std(axis=0)
    if len(sample_NM) < 2 or not (spread_M > 1e-9).all():
        raise ValueError(f"{len(sample_NM)} points; it takes two, and measures that vary")
    points_NM = (sample_NM - sample_NM.mean(axis=0)) / spread_M
    rate = 1.0 / points_NM.shape[1] if gamma is None else gamma
    kernel_NN = np.exp(-rate * squareform(pdist(points_NM, "sqeuclidean")))
    means_N = kernel_NN.mean(axis=0)
    return kernel_NN - means_N - means_N[:, None] + means_N.mean()


def _kept(values_N: Floats) -> NDArray[np.int64]:
    """Which of rising eigenvalues are components, the largest first."""
    return np.flatnonzero(values_N > TINY * values_N[-1])[::-1]
