"""Ridge regression over what plans say, its penalty chosen by leaving one out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evo.dsl.surrogate import SurrogateSpec
from evo.evolution.documents import plan_of
from evo.evolution.settings import Settings
from evo.evolution.surrogates.base import Known
from evo.evolution.surrogates.features import sizes

LEAST = 8
"""Trained candidates, before which nothing is guessed."""
PENALTIES = 10.0 ** np.arange(-3, 4)

Floats = NDArray[np.float64]


class Ridge:
    """Learns objectives from features of documents, anew each time."""

    def __init__(self, spec: SurrogateSpec, settings: Settings) -> None:
        del spec, settings

    def guess(self, documents: Sequence[str], known: Known, pending: Sequence[str]) -> list[float] | None:
        """See `Surrogate.guess`: expected objectives."""
        del pending
        known = [(text, objective) for text, objective in known if math.isfinite(objective)]
        if len(known) < LEAST:
            return None
        rows, target_N = [features(text) for text, _ in known], np.array([objective for _, objective in known])
        names = sorted({name for row in rows for name in row})
        seen_NF, asked_PF = _table(rows, names), _table([features(text) for text in documents], names)
        middle_F, spread_F = seen_NF.mean(0), seen_NF.std(0)
        varied = spread_F > 1e-9
        seen_NF, asked_PF = (((x - middle_F) / np.where(varied, spread_F, 1.0))[:, varied] for x in (seen_NF, asked_PF))
        mean = float(target_N.mean())
        return (mean + asked_PF @ _coefficients(seen_NF, target_N - mean)).tolist()


def _coefficients(x_NF: Floats, y_N: Floats) -> Floats:
    """Of standardised features; the penalty has the least squared error of predictions from all others."""
    u_NK, s_K, v_KF = np.linalg.svd(x_NF, full_matrices=False)
    best: tuple[float, Floats] | None = None
    for penalty in PENALTIES.tolist():
        shrunk_K = s_K / (np.square(s_K) + penalty)
        leverage_N = np.square(u_NK) @ (s_K * shrunk_K) + 1 / len(y_N)  # the mean is fitted too
        left_N = y_N - u_NK @ (s_K * shrunk_K * (u_NK.T @ y_N))
        error = float(np.square(left_N / np.maximum(1 - leverage_N, 1e-9)).sum())
        if best is None or error < best[0]:
            best = error, v_KF.T @ (shrunk_K * (u_NK.T @ y_N))
    assert best is not None
    return best[1]


def features(text: str) -> dict[str, float]:
    """What a document's plan and training settings say, by name; sizes and costs by their logarithms.

    Of each kind of block: how many there are, and its share of the parameters.
    """
    plan, found = plan_of(text), sizes(text)
    for _, block in plan.named_blocks():
        own = sum(weight.count for weight in block.weights)
        for name, amount in ((f"{block.kind} number", 1.0), (f"{block.kind} share", own / plan.parameters)):
            found[name] = found.get(name, 0.0) + amount
    return found


def _table(rows: Sequence[dict[str, float]], names: Sequence[str]) -> Floats:
    return np.array([[row.get(name, 0.0) for name in names] for row in rows])
