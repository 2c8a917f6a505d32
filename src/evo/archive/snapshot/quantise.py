"""Rounding to int8 with bfloat16 scales: all coefficients of a matrix by one step, so that none is finer than another.

Reverse water-filling: at a given sum of errors, bits are fewest where every coefficient that is kept errs by the same
power, seen in the layer's outputs, and what is weaker than that is dropped. Strong parts then get long integers and
weak ones short integers by themselves; the entropy coder makes that bytes. Scales are rounded before integers are
taken against them, so their own rounding costs nothing. Bfloat16, because changes after brief training reach below
fp16's range.

All functions take stacks of G matrices, on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.structure import nearest_plane

TOP = 127
_LEAST = 1e-30


def round_left(left_GMR: Tensor, step_GR: Tensor) -> tuple[Tensor, Tensor]:
    """Columns as integers, and the steps they took, which are wider than those wished for where int8 would not reach.

    Args:
        left_GMR: (G, M, R) float64.
        step_GR: (G, R) float64.

    Returns:
        int8 (G, R, M), a column a row; float64 (G, R).
    """
    step_GR = torch.maximum(step_GR, left_GMR.abs().amax(-2) / TOP).clamp_min(_LEAST)
    return _integers((left_GMR / step_GR[:, None]).mT), step_GR


def multiply_factors(left_RM: Tensor, right_RN: Tensor, scale_R: Tensor) -> Tensor:
    """(M, N) float64: the product of int8 factors. Float64 makes it the same in whatever order sums are taken."""
    return (left_RM.double().T * scale_R.double()) @ right_RN.double()


def round_rows(values_GRN: Tensor, step_GR: Tensor, columns_GNN: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows as integers times a step each, with a small error E in the norm |E L|.

    Where L is a Cholesky factor, its columns are gone through from the last to the first, and each number is rounded
    together with the error that those before it left in that column (Babai's nearest plane, as in GPTQ,
    https://arxiv.org/abs/2210.17323). Inputs of a layer are so correlated that this saves a sixth of the bytes.

    Args:
        values_GRN: (G, R, N) float64.
        step_GR: (G, R) the steps wished for; larger where int8 would not reach.
        columns_GNN: lower triangular L, or None for the identity.

    Returns:
        int8 (G, R, N), bfloat16 (G, R).
    """
    scale_GR = _scale(torch.maximum(step_GR, values_GRN.abs().amax(-1) / TOP))
    wanted_GNR = (values_GRN / scale_GR.double()[..., None]).mT.contiguous()
    if columns_GNN is None:
        return _integers(wanted_GNR.mT), scale_GR
    return _integers(nearest_plane(wanted_GNR, columns_GNN).mT), scale_GR


def _scale(values: Tensor) -> Tensor:
    """Rounded up: bfloat16 keeps 8 bits, so that rounding to nearest never falls below the value before."""
    return (values.clamp_min(_LEAST) * (1.0 + 2.0**-7)).to(torch.bfloat16)


def _integers(values: Tensor) -> Tensor:
    return values.round().clamp(-TOP, TOP).to(torch.int8).contiguous()
