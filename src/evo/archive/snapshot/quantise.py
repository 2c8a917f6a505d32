"""Integers with scales: int8 for factors, int8 and int4 in groups of 64 for dense changes.

Scales are bfloat16: half precision with fp32's range, because changes after brief training reach below fp16's. A scale
is rounded up, then the integers are taken against the rounded scale, so its rounding costs no more than 1 % of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

GROUP = 64
_ROUND_UP = 1.0 + 2.0**-7  # bfloat16 keeps 8 bits: rounding to nearest never falls below the value before
_LEAST = 1e-30


def quantise_factors(left_MR: Tensor, right_RN: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factors as int8 with one scale for each pair of a left column and its right row.

    The product needs only the product of the two scales, so one number serves both.

    Args:
        left_MR: (M, R) float64.
        right_RN: (R, N) float64.

    Returns:
        int8 (M, R), int8 (R, N), bfloat16 (R,). R may be 0.
    """
    left_step_R = left_MR.abs().amax(0).clamp_min(_LEAST**0.5) / 127
    right_step_R = right_RN.abs().amax(1).clamp_min(_LEAST**0.5) / 127
    scale_R = _scale(left_step_R * right_step_R)
    left_q = _integers(left_MR * (right_step_R / scale_R.double()), 127)
    return left_q, _integers(right_RN / right_step_R[:, None], 127), scale_R


def multiply_factors(left_MR: Tensor, right_RN: Tensor, scale_R: Tensor) -> Tensor:
    """(M, N) float64: the product of int8 factors. Float64 makes it the same in whatever order sums are taken."""
    return (left_MR.double() * scale_R.double()) @ right_RN.double()


def quantise_groups(values_N: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Values as symmetric integers with one scale for each group of 64; the last group may be shorter.

    Args:
        values_N: (N,) floating.
        bits: 4 or 8; integers lie in [-7, 7] or [-127, 127].

    Returns:
        int8 (N,), bfloat16 (ceil(N / 64),).
    """
    top = 2 ** (bits - 1) - 1
    groups = F.pad(values_N.double(), (0, -len(values_N) % GROUP)).unflatten(0, (-1, GROUP))
    scales = _scale(groups.abs().amax(1).clamp_min(_LEAST) / top)
    return _integers(groups / scales.double()[:, None], top).flatten()[: len(values_N)], scales


def expand_groups(integers_N: Tensor, scales: Tensor) -> Tensor:
    """(N,) float64: the inverse of `quantise_groups`, within half a step."""
    return integers_N.double() * scales.double().repeat_interleave(GROUP)[: len(integers_N)]


def pack_nibbles(integers_N: Tensor) -> Tensor:
    """uint8 (ceil(N / 2),): pairs of int8 values in [-8, 7], the first in the low half."""
    pairs = F.pad(integers_N.to(torch.int16) + 8, (0, len(integers_N) % 2)).unflatten(0, (-1, 2))
    return (pairs[:, 0] | (pairs[:, 1] << 4)).to(torch.uint8)


def unpack_nibbles(packed: Tensor, count: int) -> Tensor:
    """int8 (count,): the inverse of `pack_nibbles`."""
    return (torch.stack([packed & 15, packed >> 4], dim=1).flatten()[:count].to(torch.int8)) - 8


def _scale(values: Tensor) -> Tensor:
    return (values * _ROUND_UP).to(torch.bfloat16)


def _integers(values: Tensor, top: int) -> Tensor:
    return values.round().clamp(-top, top).to(torch.int8)
