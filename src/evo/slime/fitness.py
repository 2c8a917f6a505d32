"""What a pseudopod is worth to its network: three shares in [0, 1] and their weighted mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evo.slime.spec import WorthSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Worth:
    """The terms of each slot, (P,) each in [0, 1]; those of empty slots are 0.

    task: r / (r + mean r), r the root of the mean (gain d loss / d gain)^2: how much the loss depends on it, 1/2 for
        one like the mean of the living.
    efficiency: 1 - the share of its width that its effective rank needs.
    gradient: n / (n + mean n), n the norm of its weights' gradient.
    """

    task_P: Floats
    efficiency_P: Floats
    gradient_P: Floats

    def fitness(self, weights: WorthSpec) -> Floats:
        """The weighted mean, (P,) in [0, 1]; 0 where nothing is weighed."""
        rows = [
            (weights.task, self.task_P),
            (weights.efficiency, self.efficiency_P),
            (weights.gradient, self.gradient_P),
        ]
        total = sum(weight for weight, _ in rows)
        return (
            sum((weight / total * term_P for weight, term_P in rows), np.zeros_like(self.task_P))
            if total
            else 0.0 * self.task_P
        )


def worth(task_P: Floats, gradient_P: Floats, intensity_P: Floats, alive_P: NDArray[np.bool_]) -> Worth:
    """The terms by the moving averages of squares (`Vitals`) and by the measure of intensity."""
    return Worth(
        _against_mean(np.sqrt(task_P), alive_P),
        np.where(alive_P, 1.0 - intensity_P, 0.0),
        _against_mean(np.sqrt(gradient_P), alive_P),
    )


def _against_mean(values_P: Floats, alive_P: NDArray[np.bool_]) -> Floats:
    """v / (v + mean of the living), 0 where that is 0."""
    mean = float(values_P[alive_P].mean()) if alive_P.any() else 0.0
    total_P = values_P + mean
    return np.where(alive_P & (total_P > 0), values_P / np.where(total_P > 0, total_P, 1.0), 0.0)
