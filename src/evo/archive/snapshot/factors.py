"""Activation-weighted low-rank factors of weight changes, of whole stacks of matrices at once.

For y = x W^T with input second moment M = E[x^T x] = L L^T, an error E of W moves the outputs by
E[|x E^T|^2] = |E L|_F^2. So the best rank-R change, seen in the outputs, is the truncated SVD of (change L)
(the weighting of ASVD and SVD-LLM, https://arxiv.org/abs/2403.07378). An embedding table's rows are weighted by their
counts in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.archive.snapshot import quantise
from evo.archive.snapshot.record import SnapshotError
from evo.kernels.structure import low_rank_factors, principal

DAMPING = 1e-3  # of the mean input power: keeps the unexercised directions of a small sample from counting for nothing
RIDGE = 1e-10  # of the factors' own powers: rounded factors may be alike


@dataclass(frozen=True, eq=False)
class Decomposition:
    """G changes as sums of rank-one parts, the most important first, and what an error of them weighs.

    Attributes:
        change_GMN: (G, M, N) float64, each row times its weight.
        left_GMK: (G, M, K) float64, orthonormal columns; left @ left^T @ change is the best change of K parts.
        power_GK: (G, K) float64, falling: how far each part moves the outputs, as a share of the outputs' own power.
        rows_GM1: (G, M, 1) float64: the weights of rows.
        columns_GNN: (G, N, N) float64, lower triangular, L: an error E of change_GMN moves the outputs by |E L|^2, as a
            share of their own power.
        has_moments: whether columns differ; L is a multiple of the identity where they do not.
    """

    change_GMN: Tensor
    left_GMK: Tensor
    power_GK: Tensor
    rows_GM1: Tensor
    columns_GNN: Tensor
    has_moments: bool

    def ranks(self, level: float) -> Tensor:
        """(G,) int64: how many parts hold more power than an error of that power in each of their coefficients."""
        return (self.power_GK > level * sum(self.change_GMN.shape[1:])).sum(-1)

    def factors(self, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Those parts, each coefficient off by that power: int8 (G, R, M), int8 (G, R, N), bfloat16 (G, R).

        R is the highest of the ranks; parts beyond a matrix's own are zeros. The right factor is the one that suits the
        rounded left factor best.
        """
        ranks_G, error = self.ranks(level), _step(level)
        rank = int(ranks_G.max())
        is_kept_GR = torch.arange(rank, device=ranks_G.device) < ranks_G[:, None]
        left_GMR = self.left_GMK[..., :rank] / self.rows_GM1 * is_kept_GR[:, None]
        left_step_GR = error / self.power_GK[:, :rank].clamp_min(1e-300).sqrt() / self._row_weight_G[:, None]
        left_GRM, step_GR = quantise.round_left(left_GMR, left_step_GR)
        suited_GRN = _suited(self.rows_GM1 * left_GRM.double().mT, self.change_GMN)
        wished_GR = step_GR * error / self._column_weight_G[:, None]
        return left_GRM, *quantise.round_rows(suited_GRN, wished_GR, self._metric)

    def dense(self, level: float) -> tuple[Tensor, Tensor]:
        """The whole changes, each coefficient off by that power: int8 (G, M, N), bfloat16 (G,)."""
        step_G = _step(level) / self._column_weight_G / self._row_weight_G
        change_GMN = self.change_GMN / self.rows_GM1
        step_G = torch.maximum(step_G, change_GMN.abs().amax((-2, -1)) / quantise.TOP)
        step_GM = step_G[:, None].expand(change_GMN.shape[:2])
        integers_GMN, scale_GM = quantise.round_rows(change_GMN, step_GM, self._metric)
        return integers_GMN, scale_GM[:, 0]

    @property
    def _metric(self) -> Tensor | None:
        return self.columns_GNN if self.has_moments else None

    @property
    def _row_weight_G(self) -> Tensor:
        return self.rows_GM1.square().mean((-2, -1)).sqrt()

    @property
    def _column_weight_G(self) -> Tensor:
        """What a column weighs once the others make up for its error, on the geometric mean.

        The mean power would weigh the few strongest columns most; where changes are hard to compress it gave files a
        tenth larger.
        """
        return self.columns_GNN.diagonal(dim1=-2, dim2=-1).log().mean(-1).exp()


def decompose(
    names: Sequence[str], change_GMN: Tensor, trained_GMN: Tensor, moments: Sequence[Tensor | None], parts: int
) -> Decomposition:
    """The weighted decompositions of changes into their strongest parts.

    Args:
        names: of the G matrices, for messages.
        change_GMN: (G, M, N).
        trained_GMN: (G, M, N), the trained weights, whose outputs the change is compared with.
        moments: of each, (N, N) second moment of the inputs of x W^T; or (M,) weights of rows, such as token counts; or
            None for equal weights.
        parts: how many to find at most.

    Raises:
        SnapshotError: a moment of another shape, not finite, or negative.
    """
    shape, where = change_GMN.shape[1:], change_GMN.device
    here = [None if moment is None else moment.detach().to(where).double() for moment in moments]
    ones_M1 = torch.ones(shape[0], 1, dtype=torch.float64, device=where)
    weightings = [_weighting(name, ones_M1, shape[1], moment) for name, moment in zip(names, here, strict=True)]
    rows_GM1 = torch.stack([rows_M1 for rows_M1, _ in weightings])
    has_moments = any(gram is not None for _, gram in weightings)
    eye_NN = torch.eye(shape[1], dtype=torch.float64, device=where)
    columns_GNN = torch.stack([eye_NN if gram is None else gram for _, gram in weightings])
    if has_moments:  # the identity is its own factor
        columns_GNN = _cholesky(names, columns_GNN)
    scaled_GMN = rows_GM1 * change_GMN.double()
    power_G = (rows_GM1 * trained_GMN.double() @ columns_GNN).square().sum((-2, -1)).clamp_min(torch.finfo().tiny)
    columns_GNN = columns_GNN / power_G.sqrt()[:, None, None]
    left_GMK, power_GK = _strongest(scaled_GMN @ columns_GNN, parts)
    return Decomposition(scaled_GMN, left_GMK, power_GK, rows_GM1, columns_GNN, has_moments)


def _strongest(x_GMN: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Left singular vectors (G, M, K) and squared singular values (G, K), the largest first; K is at most `parts`.

    On a CPU the eigenvectors of the smaller Gram matrix are quicker than iterating; on CUDA they are found one matrix
    after another.
    """
    if x_GMN.is_cuda:
        generator = torch.Generator(x_GMN.device).manual_seed(0)
        left_GMK, right_GNK = low_rank_factors(x_GMN, parts, generator=generator)
        return left_GMK, right_GNK.square().sum(-2)
    if x_GMN.shape[1] <= x_GMN.shape[2]:
        left_GMK = principal(x_GMN.mT)[..., :parts]
        return left_GMK, (x_GMN.mT @ left_GMK).square().sum(-2)
    long_GMK = x_GMN @ principal(x_GMN)[..., :parts]
    power_GK = long_GMK.square().sum(-2)
    return long_GMK / torch.where(power_GK > 0.0, power_GK, 1.0).sqrt()[:, None], power_GK


def _step(level: float) -> float:
    """The step whose rounding errs by a power of `level` on the mean: they are evenly spread over it."""
    return math.sqrt(12.0 * level)


def _suited(left_GMR: Tensor, change_GMN: Tensor) -> Tensor:
    """(G, R, N): the right factors nearest to the changes, of which columns of zeros have none."""
    gram_GRR = left_GMR.mT @ left_GMR
    power_GR = gram_GRR.diagonal(dim1=-2, dim2=-1)
    gram_GRR = gram_GRR + torch.diag_embed(torch.where(power_GR > 0.0, RIDGE * power_GR, 1.0))
    return torch.cholesky_solve(left_GMR.mT @ change_GMN, torch.linalg.cholesky_ex(gram_GRR).L)


def _cholesky(names: Sequence[str], gram_GNN: Tensor) -> Tensor:
    factor_GNN, failed_G = torch.linalg.cholesky_ex(gram_GNN)
    if bool(failed_G.any()):
        name = names[int(failed_G.nonzero()[0])]
        raise SnapshotError(f"tensor '{name}': its moment is not a second moment (not positive semidefinite)")
    return factor_GNN


def _weighting(name: str, ones_M1: Tensor, columns: int, moment: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Row weights (M, 1) and the damped second moment (N, N) of columns, float64, or None where all weigh alike."""
    rows = len(ones_M1)
    if moment is None:
        return ones_M1, None
    if moment.shape not in ((rows,), (columns, columns)):
        raise SnapshotError(
            f"tensor '{name}': a moment of shape {tuple(moment.shape)}, expected ({columns}, {columns}) or ({rows},)"
        )
    power = moment if moment.ndim == 1 else moment.diagonal()
    if not moment.isfinite().all() or (power < 0).any():
        raise SnapshotError(f"tensor '{name}': its moment has numbers that are negative, infinite or NaN")
    floor = power.mean() * DAMPING
    if floor == 0.0:  # no input ever reached it: nothing is known about what matters
        return ones_M1, None
    if moment.ndim == 1:
        return (moment + floor).sqrt()[:, None], None
    return ones_M1, (moment + moment.T) / 2 + torch.diag(floor.expand(columns))
