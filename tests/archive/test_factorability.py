"""Whether measures tell the same: by formula, and equal to the package factor-analyzer."""

import math

import numpy as np
import pytest
from scipy.stats import chi2

from evo.archive.factorability import adequacy, factorability

NAMES = ("a", "b", "c", "d")


def sample(seed: int = 0, count: int = 60) -> np.ndarray:
    """Four measures: b follows a loosely, d follows a closely, c is alone."""
    rng = np.random.Generator(np.random.Philox(seed))
    a, b, c, d = rng.normal(size=(4, count))
    return np.stack([a, a + b, c, -a + 0.1 * d], axis=1)


def test_it_is_what_the_formulas_say() -> None:
    """Partial correlations are those of regression residuals, Bartlett's statistic follows its definition."""
    points = sample()
    found = factorability(NAMES, points)
    standard = (points - points.mean(0)) / points.std(0)
    np.testing.assert_allclose(found.correlations, standard.T @ standard / len(points), atol=1e-12)

    def residual(of: int, others: list[int]) -> np.ndarray:
        slopes = np.linalg.lstsq(standard[:, others], standard[:, of], rcond=None)[0]
        return standard[:, of] - standard[:, others] @ slopes

    partial = np.zeros((4, 4))
    for i in range(4):
        for j in range(4):
            others = [k for k in range(4) if k not in (i, j)]
            if i != j:
                partial[i, j] = np.corrcoef(residual(i, others), residual(j, others))[0, 1]
    squares = np.array(found.correlations) ** 2 - np.eye(4)
    assert found.kmo == pytest.approx(squares.sum() / (squares.sum() + (partial**2).sum()), rel=1e-9)
    assert found.kmo_each == pytest.approx(squares.sum(0) / (squares.sum(0) + (partial**2).sum(0)), rel=1e-9)
    statistic = -(60 - 1 - (2 * 4 + 5) / 6) * math.log(np.linalg.det(np.array(found.correlations)))
    assert (found.chi_square, found.freedom) == (pytest.approx(statistic), 6)
    assert found.p_value == pytest.approx(float(chi2.sf(statistic, 6)), rel=1e-9, abs=1e-300)
    assert sum(found.eigenvalues) == pytest.approx(4.0)
    assert list(found.eigenvalues) == sorted(found.eigenvalues, reverse=True)


def test_it_equals_factor_analyzer() -> None:
    """On standardised columns, for several samples: Kaiser-Meyer-Olkin and Bartlett's sphericity."""
    oracle = pytest.importorskip("factor_analyzer.factor_analyzer", reason="factor-analyzer is not installed")
    for seed in range(5):
        points = sample(seed)
        found = factorability(NAMES, points)
        standard = (points - points.mean(0)) / points.std(0)
        each, overall = oracle.calculate_kmo(standard)
        assert (found.kmo, found.kmo_each) == (pytest.approx(overall, rel=1e-6), pytest.approx(each, rel=1e-6))
        statistic, p_value = oracle.calculate_bartlett_sphericity(standard)
        assert found.chi_square == pytest.approx(statistic, rel=1e-9)
        assert found.p_value == pytest.approx(p_value, rel=1e-6, abs=1e-300)


def test_a_redundant_pair_is_named() -> None:
    """Of four measures the two that are nearly one, either way; a constant one is left out and said."""
    found = factorability(NAMES, sample())
    assert [pair[:2] for pair in found.redundant] == [("a", "d")]
    assert found.redundant[0][2] < -0.98
    flat = np.column_stack([sample(), np.full(60, 0.25)])
    other = factorability((*NAMES, "flat"), flat)
    assert (other.names, other.constant) == (NAMES, ("flat",))
    assert other.kmo == pytest.approx(found.kmo)


def test_independent_measures_pass_for_spheres() -> None:
    """Of unrelated measures Bartlett's p is seldom small; too few points are refused."""
    rng = np.random.Generator(np.random.Philox(7))
    tails = [factorability(NAMES, rng.normal(size=(80, 4))).p_value < 0.05 for _ in range(200)]
    assert np.mean(tails) < 0.12
    with pytest.raises(ValueError, match="more points than measures"):
        factorability(NAMES, sample(count=4))


@pytest.mark.parametrize(("noise", "severity"), [(4.0, "error"), (1.8, "warning"), (0.4, None)])
def test_measures_with_little_in_common_are_spoken_against(noise: float, severity: str | None) -> None:
    """Kaiser's bounds: below 0.5 an error, below 0.6 a warning, both naming a measure to drop; else nothing."""
    rng = np.random.Generator(np.random.Philox(3))
    points = rng.normal(size=(400, 1)) + noise * rng.normal(size=(400, 4)) * np.array([1.0, 1.0, 2.0, 3.0])
    found = factorability(tuple("abcd"), points)
    fault = adequacy(found)
    assert (None if fault is None else fault.severity) == severity, found.kmo
    if fault is not None:
        assert found.names[int(np.argmin(found.kmo_each))] in fault.message
