"""Stacks of matrices as products of thin ones, by subspace iteration.

Source: Halko, Martinsson & Tropp 2009 (0909.4061), algorithms 4.4 and 5.1; shifted Cholesky-QR, Fukaya et al. 2018
(1809.11085). Only products and small factorisations of whole stacks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

OVERSAMPLING = 32
ROUNDINGS = 8.0
"""Added to the diagonal of a Gram matrix of unit columns, for each of them: it can be factored even if singular."""


@contextmanager
def full_products() -> Iterator[None]:
    """Float32 matrix products in float32, also where the process allows TF32: its rounding hides small directions."""
    matmul = torch.backends.cuda.matmul
    allowed = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = allowed


@full_products()
def low_rank_factors(
    x_MN: Tensor, rank: int, *, generator: torch.Generator, iterations: int = 2
) -> tuple[Tensor, Tensor]:
    """left (..., M, R) and right (..., N, R) with left @ right^T close to the best approximation of that rank.

    R = min(rank, M, N). left's columns are orthonormal as far as the matrix has rank; right's are orthogonal, the
    longest first, their norms the singular values. Together they hold R (M + N) numbers.
    Errors stay within about 1.01 of the best rank's (Frobenius), also where the singular values fall slowly; what is of
    lower rank is met to rounding in float32, to 1e-12 of its norm in float64. A NaN stays in its matrix.
    Computes in float32 (no TF32), or float64 for float64 inputs, and returns that.

    Args:
        x_MN: (..., M, N), any leading dims.
        rank: at least 1.
        generator: draws the start; lives on x's device.
        iterations: products with x^T and x, one pair each, after the first.

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
    size_11 = torch.linalg.vector_norm(x_MN, torch.inf, dim=(-2, -1), keepdim=True)
    size_11 = torch.where(size_11 > 0.0, size_11, 1.0)
    width = min(rank + OVERSAMPLING, M, N)
    start_MP = torch.randn(M, width, generator=generator, dtype=x_MN.dtype, device=x_MN.device)
    basis_MP = x_MN @ (orthonormal(x_MN.mT @ (start_MP / size_11)) / size_11)
    for _ in range(iterations):
        basis_NP = orthonormal(x_MN.mT @ (orthonormal(basis_MP) / size_11))
        basis_MP = x_MN @ (basis_NP / size_11)
    for _ in range(3 if x_MN.dtype == torch.float64 else 2):
        basis_MP = orthonormal(basis_MP.double()).to(x_MN.dtype)
    right_NP = x_MN.mT @ (basis_MP / size_11)
    turn_PR = principal(right_NP)[..., :rank].to(x_MN.dtype)
    return basis_MP @ turn_PR, right_NP @ turn_PR * size_11


def orthonormal(x_MP: Tensor) -> Tensor:
    """A basis of the columns, (..., M, P), by shifted Cholesky-QR; columns of zeros stay zeros.

    Orthonormal where the columns are far from dependent. Others come closer to it, and span the same; in float64 two
    passes are enough for whatever float32 can tell apart, three for float64.
    """
    limits = torch.finfo(x_MP.dtype)
    gram_PP = x_MP.mT @ x_MP
    inverse_P = (gram_PP.diagonal(dim1=-2, dim2=-1) + limits.tiny).rsqrt()
    cosines_PP = gram_PP * (inverse_P[..., :, None] * inverse_P[..., None, :])
    cosines_PP.diagonal(dim1=-2, dim2=-1).add_(ROUNDINGS * limits.eps * x_MP.shape[-1])
    factor_PP, _ = torch.linalg.cholesky_ex(cosines_PP)
    return x_MP @ torch.linalg.solve_triangular(factor_PP, torch.diag_embed(inverse_P), upper=False).mT


def principal(x_NP: Tensor) -> Tensor:
    """The right singular vectors, float64 (..., P, P), those of the largest singular values first; any for a NaN."""
    wide_NP = x_NP.double()
    gram_PP = (wide_NP.mT @ wide_NP).nan_to_num()
    if x_NP.is_cuda:
        try:
            return stacked_eigenvectors(gram_PP)
        except torch.linalg.LinAlgError:
            pass
    return torch.linalg.eigh(gram_PP).eigenvectors.flip(-1)


def stacked_eigenvectors(gram_PP: Tensor) -> Tensor:
    """Those of the largest eigenvalues first, (..., P, P), as left singular vectors of Cholesky factors.

    On CUDA `eigh` takes one matrix after another, 1.3 ms each; this driver takes the whole stack at once. It gives up
    (LinAlgError) on matrices that are nearly singular; the mean eigenvalue added to all of them keeps these from it.
    """
    mean_1 = gram_PP.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)
    shift_P = torch.where(mean_1 > 0.0, mean_1, 1.0).expand(gram_PP.shape[:-1])
    factor_PP, _ = torch.linalg.cholesky_ex(gram_PP + torch.diag_embed(shift_P))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of, it raises as well
        return torch.linalg.svd(factor_PP, driver="gesvda" if gram_PP.is_cuda else None).U
