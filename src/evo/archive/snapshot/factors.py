"""Activation-weighted low-rank factors of a weight change.

For y = x W^T with input second moment M = E[x^T x] = L L^T, an error E of W moves the outputs by
E[|x E^T|^2] = |E L|_F^2. So the best rank-R change, seen in the outputs, is the truncated SVD of (change L)
(the weighting of ASVD and SVD-LLM, https://arxiv.org/abs/2403.07378). An embedding table's rows are weighted by their
counts in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from evo.archive.snapshot import quantise
from evo.archive.snapshot.record import SnapshotError

DAMPING = 1e-3  # of the mean input power: keeps the unexercised directions of a small sample from counting for nothing


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A change as a sum of rank-one parts, the most important first, and what an error of it weighs.

    Attributes:
        change_MN: (M, N) float64, each row times its weight.
        left_MK: (M, K) float64, orthonormal columns; left_MK @ left_MK.T @ change_MN is change_MN.
        power_K: (K,) float64, falling: how far each part moves the outputs, as a share of the outputs' own power.
        rows_M1: (M, 1) float64: the weights of rows.
        columns_NN: (N, N) float64, lower triangular, L: an error E of change_MN moves the outputs by |E L|^2, as a
            share of their own power.
    """

    change_MN: Tensor
    left_MK: Tensor
    power_K: Tensor
    rows_M1: Tensor
    columns_NN: Tensor

    def rank(self, level: float) -> int:
        """How many parts hold more power than an error of that power in each of their coefficients; it may be 0."""
        return int((self.power_K > level * sum(self.change_MN.shape)).sum())

    def factors(self, level: float) -> tuple[Tensor, ...]:
        """Those parts, each coefficient off by that power: int8 (R, M), int8 (R, N), bfloat16 (R,).

        The right factor is the one that suits the rounded left factor best.
        """
        rank, error = self.rank(level), _step(level)
        left_MR = self.left_MK[:, :rank] / self.rows_M1
        left_step_R = error / self.power_K[:rank].sqrt() / self._row_weight
        left_RM, step_R = quantise.round_left(left_MR, left_step_R)
        suited_RN = torch.linalg.pinv(self.rows_M1 * left_RM.double().T) @ self.change_MN
        return left_RM, *quantise.round_rows(suited_RN, step_R * error / self._column_weight, self.columns_NN)

    def dense(self, level: float) -> tuple[Tensor, ...]:
        """The whole change, each coefficient off by that power: int8 (1, M N), bfloat16 (1,)."""
        step = _step(level) / self._column_weight / self._row_weight
        change_MN = self.change_MN / self.rows_M1
        steps_M = torch.full((len(change_MN),), max(step, float(change_MN.abs().max()) / quantise.TOP))
        integers_MN, scale_M = quantise.round_rows(change_MN, steps_M.double(), self.columns_NN)
        return integers_MN, scale_M[:1]

    @property
    def _row_weight(self) -> float:
        return float(self.rows_M1.square().mean().sqrt())

    @cached_property
    def _column_weight(self) -> float:
        """What a column weighs once the others make up for its error, on the geometric mean.

        The mean power would weigh the few strongest columns most; where changes are hard to compress it gave files a
        tenth larger.
        """
        return float(self.columns_NN.diagonal().log().mean().exp())


def decompose(name: str, change_MN: Tensor, trained_MN: Tensor, moment: Tensor | None) -> Decomposition:
    """The weighted singular value decomposition of a change.

    Args:
        name: for messages.
        change_MN: (M, N).
        trained_MN: (M, N), the trained weights, whose outputs the change is compared with.
        moment: (N, N) second moment of the inputs of x W^T; or (M,) weights of rows, such as token counts; or None for
            equal weights.

    Raises:
        SnapshotError: a moment of another shape, not finite, or negative.
    """
    rows_M1, columns_NN = _weighting(name, change_MN, moment)
    scaled_MN = rows_M1 * change_MN.double()
    power = (rows_M1 * trained_MN.double() @ columns_NN).square().sum().clamp_min(torch.finfo().tiny)
    columns_NN = columns_NN / power.sqrt()
    left_MK, sigma_K, _ = torch.linalg.svd(scaled_MN @ columns_NN, full_matrices=False)
    return Decomposition(scaled_MN, left_MK, sigma_K.square(), rows_M1, columns_NN)


def _step(level: float) -> float:
    """The step whose rounding errs by a power of `level` on the mean: they are evenly spread over it."""
    return math.sqrt(12.0 * level)


def _weighting(name: str, change_MN: Tensor, moment: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row weights (M, 1) and the Cholesky factor (N, N) of the column weights, damped."""
    ones_M1 = torch.ones(len(change_MN), 1, dtype=torch.float64)
    rows, columns = change_MN.shape
    eye_NN = torch.eye(columns, dtype=torch.float64)
    if moment is None:
        return ones_M1, eye_NN
    if moment.shape not in ((rows,), (columns, columns)):
        raise SnapshotError(
            f"tensor '{name}': a moment of shape {tuple(moment.shape)}, expected ({columns}, {columns}) or ({rows},)"
        )
    moment = moment.detach().to("cpu", torch.float64)
    power = moment if moment.ndim == 1 else moment.diagonal()
    if not moment.isfinite().all() or (power < 0).any():
        raise SnapshotError(f"tensor '{name}': its moment has numbers that are negative, infinite or NaN")
    floor = float(power.mean()) * DAMPING
    if floor == 0.0:  # no input ever reached it: nothing is known about what matters
        return ones_M1, eye_NN
    if moment.ndim == 1:
        return (moment + floor).sqrt()[:, None], eye_NN
    symmetric = (moment + moment.T) / 2 + floor * eye_NN
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    if failed:
        raise SnapshotError(f"tensor '{name}': its moment is not a second moment (not positive semidefinite)")
    return ones_M1, factor
