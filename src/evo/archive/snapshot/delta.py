"""One tensor's change, and how it is held at a distortion level."""

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
SURELY_FACTORS, SURELY_DENSE = 0.5, 1.0  # between them both are made and the smaller one is taken


@dataclass(frozen=True, eq=False)
class TensorDelta:
    """One tensor's change; its decomposition is made once, when a level first asks for it."""

    name: str
    base: Tensor
    trained: Tensor
    moment: Tensor | None = None

    @cached_property
    def change(self) -> Tensor:
        """The change in float64, of the tensor's shape."""
        return self.trained.double() - self.base.double()

    @cached_property
    def decomposition(self) -> Decomposition:
        """The weighted decomposition of the change as a matrix."""
        matrix = matrix_shape(tuple(self.trained.shape))
        return decompose(self.name, self.change.reshape(matrix), self.trained.reshape(matrix), self.moment)

    @cached_property
    def is_same(self) -> bool:
        """Whether there is no change."""
        return torch.equal(self.trained, self.base)

    @cached_property
    def small(self) -> EncodedTensor:
        """All numbers in 8 bits: what tensors with nothing to drop get at every level."""
        integers, scale = quantise.round_rows(self.change.reshape(1, -1), torch.zeros(1), None)
        return self._piece("dense", 0, integers, scale)

    def at(self, level: float) -> EncodedTensor:
        """With errors of that share of the outputs' power a coefficient: factors, or the whole change if smaller."""
        if self.is_same:
            return self._piece("same", 0)
        if self.trained.ndim < 2 or self.trained.numel() < SMALL:
            return self.small
        parts = self.decomposition
        rank = parts.rank(level)
        share = rank * sum(parts.change_MN.shape) / self.trained.numel()  # of as many integers as the whole change
        pieces = []
        if share < SURELY_DENSE:
            pieces.append(self._piece("factors", rank, *parts.factors(level)))
        if share > SURELY_FACTORS:
            pieces.append(self._piece("dense", 0, *parts.dense(level)))
        return min(pieces, key=lambda piece: piece.nbytes)

    def half(self) -> EncodedTensor:
        """The change in half precision; the trained tensor where that cannot hold it."""
        if self.is_same or self.change.abs().max() > torch.finfo(torch.float16).max:
            return self.whole()
        return self._piece("half", 0, self.change.half())

    def whole(self) -> EncodedTensor:
        """The trained tensor itself."""
        return self._piece("same", 0) if self.is_same else self._piece("float", 0, self.trained.clone())

    def _piece(self, method: str, rank: int, *arrays: Tensor) -> EncodedTensor:
        shape = tuple(self.trained.shape)
        return EncodedTensor(self.name, shape, method, rank, tuple(array.flatten() for array in arrays))
