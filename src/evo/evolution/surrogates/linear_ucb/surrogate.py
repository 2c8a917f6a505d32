"""Upper confidence bounds of Bayesian linear regression over what documents choose.

Objectives are compared by their ranks, as normal scores. Their model is a constant of which nothing is known, plus
weights of the features that are normal with mean 0 and one variance, plus normal noise; the two variances are the
likeliest of a grid. What was never tried has its weight's whole variance, so children with new choices come first while
little is known, and those like the best do when much is. Children that are chosen and not trained yet narrow the
variance and leave the mean (Desautels et al. 2014, GP-BUCB), so that a generation does not try one thing many times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evo.evolution.documents import document_of
from evo.evolution.settings import Settings
from evo.evolution.surrogates.base import Known
from evo.evolution.surrogates.features import chosen, sizes
from evo.evolution.surrogates.linear_ucb.spec import LinearUCBSpec

MOST = 400
"""The latest candidates that are learned from beside the first: the work grows with the cube of their number."""
SCALES = (0.0625, 0.125, 0.25, 0.5, 1.0, 2.0)
"""Standard deviations that weights may have, and noise: of the normal scores, whose own is 1."""
FEWEST = 3
"""Candidates before which the likelihood tells nothing, and weights and noise are as large."""
CONSTANT = 100.0
"""The variance of the constant: as good as without end."""
BROAD, NARROW = ("mixer: ", "ffn: ", "stage: "), 0.4
"""A kind of what layers are made of is thought to change more than a kind of their parts or a setting, by so much."""
NOVEL = 0.3
"""What the number of all choices that the first document has not counts beside each of them."""

Floats = NDArray[np.float64]


class Scale(NamedTuple):
    """Standard deviations."""

    weight: float
    noise: float


class LinearUCB:
    """Mean plus so many standard deviations, learned anew each time."""

    def __init__(self, spec: LinearUCBSpec, settings: Settings) -> None:
        del settings
        self.optimism = spec.optimism

    def guess(self, documents: Sequence[str], known: Known, pending: Sequence[str]) -> list[float] | None:
        """See `Surrogate.guess`: upper confidence bounds of normal scores."""
        known = (known[0], *known[1:][-MOST:])
        first = features(known[0][0])
        seen_NF, chosen_MF, asked_PF = _tables(first, [text for text, _ in known], pending, documents)
        score_N, scale = learned(known)
        mean_P, _ = posterior(seen_NF, score_N, asked_PF, scale)
        tried_LF = np.concatenate((seen_NF, chosen_MF))
        _, deviation_P = posterior(tried_LF, np.zeros(len(tried_LF)), asked_PF, scale)
        return (mean_P + self.optimism * deviation_P).tolist()


@lru_cache(maxsize=4096)
def features(text: str) -> Mapping[str, float]:
    """A number for each thing that a document chooses, and the logarithms of its sizes."""
    names = chosen(document_of(text))
    return {name: 1.0 if name.startswith(BROAD) else NARROW for name in names} | sizes(text)


@lru_cache(maxsize=1)
def learned(known: tuple[tuple[str, float], ...]) -> tuple[Floats, Scale]:
    """Scores and their scale, which all slots of a generation share."""
    (seen_NF,) = _tables(features(known[0][0]), [text for text, _ in known])
    score_N = normal_scores([objective for _, objective in known])
    return score_N, likeliest(seen_NF, score_N)


def normal_scores(values: Sequence[float]) -> Floats:
    """Quantiles of the normal distribution by rank (van der Waerden 1952), ties by their mean rank."""
    from scipy.stats import rankdata  # takes most of a second

    shares = (rankdata(values) - 0.5) / len(values)
    return np.array([NormalDist().inv_cdf(share) for share in shares.tolist()])


def likeliest(x_NF: Floats, y_N: Floats) -> Scale:
    """The scale under which what varies of the scores has the greatest likelihood."""
    if len(y_N) < FEWEST:
        return Scale(0.5, 0.5)
    centred_NF = x_NF - x_NF.mean(0)
    value_N, vector_NN = np.linalg.eigh(centred_NF @ centred_NF.T)
    along_N = np.square(vector_NN.T @ (y_N - y_N.mean()))

    def unlikely(scale: Scale) -> float:
        variance_N = scale.weight**2 * np.maximum(value_N, 0.0) + scale.noise**2
        return float((np.log(variance_N) + along_N / variance_N).sum())

    return min((Scale(*pair) for pair in product(SCALES, SCALES)), key=unlikely)


def posterior(x_NF: Floats, y_N: Floats, asked_PF: Floats, scale: Scale) -> tuple[Floats, Floats]:
    """Mean and standard deviation at (P, F) of what is without noise, each (P,)."""
    weights = scale.weight**2
    covariance_NN = weights * (x_NF @ x_NF.T) + CONSTANT + scale.noise**2 * np.eye(len(y_N))
    across_NP = weights * (x_NF @ asked_PF.T) + CONSTANT
    solved_NP = np.linalg.solve(covariance_NN, across_NP)
    variance_P = weights * np.square(asked_PF).sum(1) + CONSTANT - (across_NP * solved_NP).sum(0)
    return solved_NP.T @ y_N, np.sqrt(np.maximum(variance_P, 0.0))


def _tables(first: Mapping[str, float], *groups: Sequence[str]) -> list[Floats]:
    """Of each group of documents (N, F): each feature as far as it is from the first document's, and how many choices
    that one has not."""
    rows = [[features(text) for text in texts] for texts in groups]
    names = sorted({*first, *(name for group in rows for row in group for name in row)})
    return [np.array([_row(first, row, names) for row in group]).reshape(-1, len(names) + 1) for group in rows]


def _row(first: Mapping[str, float], row: Mapping[str, float], names: Sequence[str]) -> list[float]:
    moved = [row.get(name, 0.0) - first.get(name, 0.0) for name in names]
    return [*moved, NOVEL * sum(name not in first for name in row)]
