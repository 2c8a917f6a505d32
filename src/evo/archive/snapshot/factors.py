"""Activation-weighted low-rank factors of a weight change.

For y = x W^T with input second moment M = E[x^T x] = L L^T, an error E of W moves the outputs by
E[|x E^T|^2] = |E L|_F^2. So the best rank-R change, seen in the outputs, is the truncated SVD of (change L)
(the weighting of ASVD and SVD-LLM, https://arxiv.org/abs/2403.07378). An embedding table's rows are weighted by their
counts in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.archive.snapshot.record import SnapshotError

DAMPING = 1e-3  # of the mean input power: keeps the unexercised directions of a small sample from counting for nothing


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A change as a sum of rank-one parts, the most important first.

    Attributes:
        left_MK: (M, K) float64; the sum of left_MK[:, i] right_KN[i] over all i is the change.
        right_KN: (K, N) float64.
        power_K: (K,) float64, falling: how far each part moves the outputs, as a share of the outputs' own power.
    """

    left_MK: Tensor
    right_KN: Tensor
    power_K: Tensor

    def rank(self, least_power: float) -> int:
        """How many parts move the outputs by at least that share of their power; it may be 0."""
        return int((self.power_K >= least_power).sum())


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
    left_MK, sigma_K, _ = torch.linalg.svd(_project(scaled_MN, columns_NN), full_matrices=False)
    power = _project(rows_M1 * trained_MN.double(), columns_NN).square().sum().clamp_min(torch.finfo().tiny)
    return Decomposition(left_MK / rows_M1, left_MK.T @ scaled_MN, sigma_K.square() / power)


def _project(matrix_MN: Tensor, columns_NN: Tensor | None) -> Tensor:
    return matrix_MN if columns_NN is None else matrix_MN @ columns_NN


def _weighting(name: str, change_MN: Tensor, moment: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Row weights (M, 1) and the Cholesky factor (N, N) of the column weights, damped; None for equal ones."""
    ones_M1 = torch.ones(len(change_MN), 1, dtype=torch.float64)
    if moment is None:
        return ones_M1, None
    rows, columns = change_MN.shape
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
        return ones_M1, None
    if moment.ndim == 1:
        return (moment + floor).sqrt()[:, None], None
    symmetric = (moment + moment.T) / 2 + floor * torch.eye(columns, dtype=torch.float64)
    factor, failed = torch.linalg.cholesky_ex(symmetric)
    if failed:
        raise SnapshotError(f"tensor '{name}': its moment is not a second moment (not positive semidefinite)")
    return ones_M1, factor
