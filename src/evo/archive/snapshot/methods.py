"""The ways to hold one tensor's change, as a table: a new way is a new row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.archive.snapshot import quantise

Shape = tuple[int, ...]
Layout = tuple[tuple[torch.dtype, int], ...]


@dataclass(frozen=True)
class Method:
    """One way.

    Attributes:
        layout: dtype and length of each array, from the shape of the tensor and the rank.
        decode: arrays, shape and rank to the change (any shape of that many numbers, float32 or float64).
        is_whole: the arrays hold the trained tensor itself, not its change.
    """

    layout: Callable[[Shape, int], Layout]
    decode: Callable[[tuple[Tensor, ...], Shape, int], Tensor]
    is_whole: bool = False


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """The matrix that a tensor is factored as: its last dimension against all others (stacked experts, taps)."""
    return math.prod(shape[:-1]), math.prod(shape[-1:])


def _factors_layout(shape: Shape, rank: int) -> Layout:
    rows, columns = matrix_shape(shape)
    return (torch.int8, rank * rows), (torch.int8, rank * columns), (torch.bfloat16, rank)


def _decode_factors(arrays: tuple[Tensor, ...], shape: Shape, rank: int) -> Tensor:
    rows, columns = matrix_shape(shape)
    left, right, scale_R = arrays
    return quantise.multiply_factors(left.view(rank, rows), right.view(rank, columns), scale_R)


METHODS: dict[str, Method] = {
    "same": Method(lambda shape, rank: (), lambda arrays, shape, rank: torch.zeros(shape)),
    "factors": Method(_factors_layout, _decode_factors),
    "dense": Method(
        lambda shape, rank: ((torch.int8, math.prod(shape)), (torch.bfloat16, 1)),
        lambda arrays, shape, rank: arrays[0].double() * arrays[1].double(),
    ),
    "half": Method(lambda shape, rank: ((torch.float16, math.prod(shape)),), lambda arrays, shape, rank: arrays[0]),
    "float": Method(
        lambda shape, rank: ((torch.float32, math.prod(shape)),), lambda arrays, shape, rank: arrays[0], is_whole=True
    ),
}
