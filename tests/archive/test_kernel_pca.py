"""Kernel PCA: scikit-learn's values, and what it sees that correlations do not."""

from __future__ import annotations

import numpy as np
import pytest

from evo.archive.factorability import factorability
from evo.archive.kernel_pca import kernel_pca, kernel_spectrum


@pytest.mark.parametrize("gamma", [None, 0.7])
def test_values_are_those_of_scikit_learn(gamma: float | None) -> None:
    """Eigenvalues and points on standardised columns, signs included."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    sample_NM = np.random.default_rng(0).gamma(2.0, size=(40, 5)) * [1.0, 10.0, 0.1, 3.0, 1.0]
    found = kernel_pca(sample_NM, gamma)
    standardised_NM = (sample_NM - sample_NM.mean(0)) / sample_NM.std(0)
    oracle = decomposition.KernelPCA(n_components=8, kernel="rbf", gamma=gamma, eigen_solver="dense")
    points_NC = oracle.fit_transform(standardised_NM)
    np.testing.assert_allclose(found.eigenvalues_C[:8], oracle.eigenvalues_, rtol=1e-10)
    np.testing.assert_allclose(found.points_NC[:, :8], points_NC, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(kernel_spectrum(sample_NM, gamma).eigenvalues_C, found.eigenvalues_C, rtol=1e-8)


def test_a_bent_line_is_one_thing() -> None:
    """Measures on a parabola do not correlate, and need fewer components than two that have nothing in common."""
    x_N, other_N = np.random.default_rng(1).uniform(-1, 1, (2, 200))
    bent_NM, free_NM = np.stack((x_N, x_N**2), 1), np.stack((x_N, other_N), 1)
    correlations = factorability(("x", "y"), bent_NM).correlations
    assert abs(correlations[0][1]) < 0.2
    assert kernel_pca(bent_NM).dims() < kernel_pca(free_NM).dims()
    assert kernel_pca(free_NM).shares_C.sum() == pytest.approx(1.0)


def test_too_little_to_go_by_is_an_error() -> None:
    """One point, or a measure that is the same everywhere."""
    for sample_NM in (np.zeros((1, 2)), np.stack((np.arange(4.0), np.ones(4)), 1)):
        with pytest.raises(ValueError, match="measures that vary"):
            kernel_pca(sample_NM)
