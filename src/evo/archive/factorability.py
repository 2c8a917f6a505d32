"""Whether measures are worth an axis each: correlations, Bartlett's test of sphericity, Kaiser-Meyer-Olkin.

The formulas are those of Bartlett 1951 (https://doi.org/10.1093/biomet/38.3-4.337) and of Kaiser and Rice 1974
(https://doi.org/10.1177/001316447403400115); values equal those of the package `factor-analyzer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

REDUNDANT = 0.9
"""The correlation, either way, from which two measures count as one."""

LEAST, FAIR = 0.5, 0.6
"""Kaiser's bounds of sampling adequacy: below the first measures have nothing in common, below the second little."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Factorability:
    """What a sample of measures says of them.

    names: of the measures that vary; constant: of the others, which tell nothing. correlations: (M, M) Pearson's.
    eigenvalues: of the correlations, the largest first. chi_square, freedom, p_value: Bartlett's test that no two
    measures correlate at all. kmo, kmo_each: Kaiser-Meyer-Olkin, the share of squared correlations that is not partial.
    redundant: pairs that correlate by at least 0.9, one of which may go.
    """

    count: int
    names: tuple[str, ...]
    constant: tuple[str, ...]
    correlations: tuple[tuple[float, ...], ...]
    eigenvalues: tuple[float, ...]
    chi_square: float
    freedom: int
    p_value: float
    kmo: float
    kmo_each: tuple[float, ...]
    redundant: tuple[tuple[str, str, float], ...]


def factorability(names: tuple[str, ...], sample_NM: Floats) -> Factorability:
    """What a sample (N, M) says of its measures.

    Raises:
        ValueError: not more points than measures, or fewer than two measures that vary.
    """
    varies_M = sample_NM.std(axis=0) > 1e-9 if len(sample_NM) else np.zeros(len(names), dtype=np.bool_)
    kept = tuple(name for name, varies in zip(names, varies_M, strict=True) if varies)
    points_NM = sample_NM[:, varies_M]
    count, dims = points_NM.shape
    if dims < 2 or count <= dims:
        raise ValueError(f"{count} points of {dims} measures that vary; it takes two, and more points than measures")
    correlations_MM: Floats = np.asarray(np.corrcoef(points_NM, rowvar=False), dtype=np.float64)
    chi_square, freedom, p_value = sphericity(correlations_MM, count)
    kmo_each_M, kmo = kaiser_meyer_olkin(correlations_MM)
    pairs = ((kept[i], kept[j], float(correlations_MM[i, j])) for i, j in combinations(range(dims), 2))
    return Factorability(
        count=count,
        names=kept,
        constant=tuple(name for name in names if name not in kept),
        correlations=tuple(tuple(row.tolist()) for row in correlations_MM),
        eigenvalues=tuple(np.linalg.eigvalsh(correlations_MM)[::-1].tolist()),
        chi_square=chi_square,
        freedom=freedom,
        p_value=p_value,
        kmo=kmo,
        kmo_each=tuple(kmo_each_M.tolist()),
        redundant=tuple(pair for pair in pairs if abs(pair[2]) >= REDUNDANT),
    )


@dataclass(frozen=True)
class Inadequate:
    """Measures that share too little to span one space. severity: `error` below 0.5, `warning` below 0.6."""

    severity: str
    message: str


def adequacy(found: Factorability) -> Inadequate | None:
    """What there is to say against the measures of a sample, naming the one to drop; None if nothing."""
    if found.kmo >= FAIR:
        return None
    worst = found.names[int(np.argmin(found.kmo_each))]
    pair = next((pair for pair in found.redundant), None)
    spare = f"{pair[0]} and {pair[1]} tell the same ({pair[2]:+.2f})" if pair else f"{worst} fits the others least"
    severity = "error" if found.kmo < LEAST else "warning"
    return Inadequate(
        severity, f"Kaiser-Meyer-Olkin is {found.kmo:.2f}, below {LEAST if found.kmo < LEAST else FAIR}: {spare}"
    )


def sphericity(correlations_MM: Floats, count: int) -> tuple[float, int, float]:
    """Bartlett's test of sphericity: (chi square, degrees of freedom, p), with
    chi square = -(n - 1 - (2 M + 5) / 6) ln det R and M (M - 1) / 2 degrees of freedom."""
    dims = len(correlations_MM)
    sign, logarithm = np.linalg.slogdet(correlations_MM)
    value = -(count - 1 - (2 * dims + 5) / 6) * float(logarithm) if sign > 0 else math.inf
    freedom = dims * (dims - 1) // 2
    return value, freedom, float(chi2.sf(value, freedom))


def kaiser_meyer_olkin(correlations_MM: Floats) -> tuple[Floats, float]:
    """Each measure's and the overall sampling adequacy: sum r^2 / (sum r^2 + sum a^2) over the off-diagonal
    correlations r and partial correlations a, by the (pseudo-)inverse of R."""
    inverse_MM = np.linalg.pinv(correlations_MM)
    scale_M = np.sqrt(np.diag(inverse_MM))
    partial_MM = -inverse_MM / np.outer(scale_M, scale_M)
    off_MM = ~np.eye(len(correlations_MM), dtype=bool)
    squares_MM, partials_MM = correlations_MM**2 * off_MM, partial_MM**2 * off_MM
    each_M = squares_MM.sum(0) / (squares_MM.sum(0) + partials_MM.sum(0))
    return each_M, float(squares_MM.sum() / (squares_MM.sum() + partials_MM.sum()))
