"""Stacks of matrices as products of thin ones, by subspace iteration.

Source: Halko, Martinsson & Tropp 2009 (0909.4061), algorithms 4.4 and 5.1; shifted Cholesky-QR, Fukaya et al. 2018
(1809.11085). Only products and small factorisations of whole stacks.
"""

from __future__ import annotations

import torch
from torch import Tensor

OVERSAMPLING = 16
ROUNDINGS = 8.0
"""Added to the diagonal of a Gram matrix of unit columns, for each of them: it can be factored even if singular."""


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
    start_NP = torch.randn(N, min(rank + OVERSAMPLING, M, N), generator=generator, dtype=x_MN.dtype, device=x_MN.device)
    size_11 = torch.linalg.vector_norm(x_MN, torch.inf, dim=(-2, -1), keepdim=True)
    size_11 = torch.where(size_11 > 0.0, size_11, 1.0)
    basis_MP = orthonormal(x_MN @ (start_NP / size_11))
    for _ in range(iterations):
        basis_NP = orthonormal(x_MN.mT @ (basis_MP / size_11))
        basis_MP = orthonormal(x_MN @ (basis_NP / size_11))
    for _ in range(2):
        basis_MP = orthonormal(basis_MP.double()).to(x_MN.dtype)
    right_NP = x_MN.mT @ basis_MP
    wide_NP = right_NP.double()
    _, turn_PP = torch.linalg.eigh((wide_NP.mT @ wide_NP).nan_to_num())
    turn_PR = turn_PP[..., -rank:].flip(-1).to(x_MN.dtype)
    return basis_MP @ turn_PR, right_NP @ turn_PR


def orthonormal(x_MP: Tensor) -> Tensor:
    """A basis of the columns, (..., M, P), by shifted Cholesky-QR; columns of zeros stay zeros.

    Orthonormal where the columns are far from dependent. Others come closer to it, and span the same; in float64 two
    passes are enough for whatever float32 can tell apart.
    """
    gram_PP = x_MP.mT @ x_MP
    length_P = gram_PP.diagonal(dim1=-2, dim2=-1).sqrt()
    inverse_P = torch.where(length_P > 0.0, 1.0 / length_P, 0.0)
    eye_PP = torch.eye(x_MP.shape[-1], dtype=x_MP.dtype, device=x_MP.device)
    shift = ROUNDINGS * torch.finfo(x_MP.dtype).eps * len(eye_PP)
    cosines_PP = inverse_P[..., :, None] * gram_PP * inverse_P[..., None, :]
    factor_PP, _ = torch.linalg.cholesky_ex(cosines_PP + shift * eye_PP)
    inverse_PP = torch.linalg.solve_triangular(factor_PP, eye_PP, upper=False) * inverse_P[..., None, :]
    return x_MP @ inverse_PP.mT
