"""Stacks of matrices as products of thin ones, by subspace iteration.

Source: Halko, Martinsson & Tropp 2009 (0909.4061), algorithms 4.4 and 5.1; shifted Cholesky-QR, Fukaya et al. 2018
(1809.11085). Only products and small factorisations of whole stacks.
"""

from __future__ import annotations

import torch
from torch import Tensor

OVERSAMPLING = 16
SHIFT = 2e-15
"""Added to the diagonal of a Gram matrix of unit columns, for each of them: float64 can factor it even if singular."""


def low_rank_factors(
    x_MN: Tensor, rank: int, *, generator: torch.Generator, iterations: int = 3
) -> tuple[Tensor, Tensor]:
    """left (..., M, R) and right (..., N, R) with left @ right^T close to the best approximation of that rank.

    R = min(rank, M, N). left's columns are orthonormal as far as the matrix has rank; right's are orthogonal, the
    longest first, their norms the singular values. Together they hold R (M + N) numbers.
    Errors stay within about 1.01 of the best rank's (Frobenius), also where the singular values fall slowly; what is of
    lower rank is met to rounding in float32, to 1e-12 of its norm in float64. A NaN stays in its matrix.
    Computes in float32, or float64 for float64 inputs, and returns that.

    Args:
        x_MN: (..., M, N), any leading dims.
        rank: at least 1.
        generator: draws the start; lives on x's device.
        iterations: products with x^T and x, one pair each.

    Raises:
        ValueError: a rank below 1 or fewer than two dims.
    """
    if rank < 1 or x_MN.ndim < 2:
        raise ValueError(f"a matrix and a rank of at least 1, found {tuple(x_MN.shape)} and rank {rank}")
    x_MN = x_MN.to(torch.promote_types(x_MN.dtype, torch.float32))
    M, N = x_MN.shape[-2:]
    rank = min(rank, M, N)
    if x_MN.numel() == 0:
        return x_MN.new_zeros(*x_MN.shape[:-1], rank), x_MN.new_zeros(*x_MN.shape[:-2], N, rank)
    size = min(rank + OVERSAMPLING, M, N)
    start_NP = torch.randn(N, size, generator=generator, dtype=x_MN.dtype, device=x_MN.device)
    basis_MP = orthonormal(x_MN @ start_NP)
    for _ in range(iterations):
        basis_MP = orthonormal(x_MN @ orthonormal(x_MN.mT @ basis_MP))
    for _ in range(2 if x_MN.dtype == torch.float64 else 1):
        basis_MP = orthonormal(basis_MP)
    right_NP = x_MN.mT @ basis_MP
    _, turn_PP = torch.linalg.eigh(gram(right_NP).nan_to_num())
    turn_PR = turn_PP[..., -rank:].flip(-1).to(x_MN.dtype)
    return basis_MP @ turn_PR, right_NP @ turn_PR


def orthonormal(x_MP: Tensor) -> Tensor:
    """An orthonormal basis of the columns, (..., M, P), by Cholesky-QR; columns of zeros stay zeros.

    Columns that are close to dependent come out right after a second pass; in float64, which has no wider Gram matrix,
    after a third.
    """
    gram_PP = gram(x_MP)
    length_P = gram_PP.diagonal(dim1=-2, dim2=-1).sqrt()
    inverse_P = torch.where(length_P > 0.0, 1.0 / length_P, 0.0)
    eye_PP = torch.eye(x_MP.shape[-1], dtype=torch.float64, device=x_MP.device)
    cosines_PP = inverse_P[..., :, None] * gram_PP * inverse_P[..., None, :]
    factor_PP, _ = torch.linalg.cholesky_ex(cosines_PP + SHIFT * len(eye_PP) * eye_PP)
    inverse_PP = torch.linalg.solve_triangular(factor_PP, eye_PP, upper=False) * inverse_P[..., None, :]
    return x_MP @ inverse_PP.mT.to(x_MP.dtype)


def gram(x_MP: Tensor) -> Tensor:
    """x^T x in float64, which holds the squares of float32's range and digits."""
    wide_MP = x_MP.double()
    return wide_MP.mT @ wide_MP
