"""The changes of a stack of tensors of one shape, and how each is held at a distortion level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from evo.archive.snapshot import quantise
from evo.archive.snapshot.factors import Decomposition, decompose
from evo.archive.snapshot.methods import matrix_shape
from evo.archive.snapshot.record import EncodedTensor

SMALL = 1024  # tensors with fewer numbers are kept in 8 bits: they are a percent of the bytes and matter most
MOST_FACTORS = 0.75  # of the integers of the whole change: beyond that many it is held whole


@dataclass(frozen=True, eq=False)
class ChangeStack:
    """Tensors of one shape whose changes are held alike; decomposed once, when a level first asks for it.

    Attributes:
        names: one a tensor.
        change_G: (G, *shape) float64, on the device that computes. trained_G: the same, float32.
        moments: see `decompose`.
    """

    names: tuple[str, ...]
    change_G: Tensor
    trained_G: Tensor
    moments: tuple[Tensor | None, ...]

    @cached_property
    def decomposition(self) -> Decomposition:
        """The weighted decompositions of the changes as matrices."""
        stack = (len(self.names), *matrix_shape(self.shape))
        parts = int(MOST_FACTORS * stack[1] * stack[2] / (stack[1] + stack[2])) + 1
        return decompose(self.names, self.change_G.view(stack), self.trained_G.view(stack), self.moments, parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each tensor."""
        return tuple(self.trained_G.shape[1:])

    @cached_property
    def eighths(self) -> list[EncodedTensor]:
        """All numbers in 8 bits: what tensors with nothing to drop get at every level."""
        flat_G1N = self.change_G.reshape(len(self.names), 1, -1)
        integers, scale = quantise.round_rows(flat_G1N, flat_G1N.new_zeros(len(self.names), 1), None)
        return [self._piece(index, "dense", 0, integers[index], scale[index]) for index in range(len(self.names))]

    def at(self, level: float) -> list[EncodedTensor]:
        """With errors of that share of the outputs' power a coefficient: factors, or the whole change where it takes
        too many of them."""
        if len(self.shape) < 2 or self.trained_G[0].numel() < SMALL:
            return self.eighths
        rows, columns = matrix_shape(self.shape)
        ranks = self.decomposition.ranks(level).tolist()
        is_dense = [rank * (rows + columns) > MOST_FACTORS * rows * columns for rank in ranks]
        whole = self.decomposition.dense(level) if any(is_dense) else None
        parts = None if all(is_dense) else self.decomposition.factors(level)
        pieces = []
        for index, rank in enumerate(ranks):
            if is_dense[index]:
                assert whole is not None
                pieces.append(self._piece(index, "dense", 0, *(array[index] for array in whole)))
            else:
                assert parts is not None
                pieces.append(self._piece(index, "factors", rank, *(array[index, :rank] for array in parts)))
        return pieces

    def half(self) -> list[EncodedTensor]:
        """The changes in half precision; the trained tensor where that cannot hold one."""
        fits_G = self.change_G.reshape(len(self.names), -1).abs().amax(1) <= torch.finfo(torch.float16).max
        return [
            self._piece(index, "half", 0, self.change_G[index].half()) if fits else self._whole(index)
            for index, fits in enumerate(fits_G.tolist())
        ]

    def whole(self) -> list[EncodedTensor]:
        """The trained tensors themselves."""
        return [self._whole(index) for index in range(len(self.names))]

    def _whole(self, index: int) -> EncodedTensor:
        return self._piece(index, "float", 0, self.trained_G[index].clone())

    def _piece(self, index: int, method: str, rank: int, *arrays: Tensor) -> EncodedTensor:
        return EncodedTensor(self.names[index], self.shape, method, rank, tuple(a.reshape(-1) for a in arrays))
