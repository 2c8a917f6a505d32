"""One tensor's change, and the choices there are to hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from evo.archive.snapshot import quantise
from evo.archive.snapshot.factors import Decomposition, decompose
from evo.archive.snapshot.methods import METHODS, matrix_shape
from evo.archive.snapshot.record import Piece

Choice = tuple[str, int]  # method and rank

SMALL = 1024  # tensors with fewer numbers are kept in half precision: they are a percent of the bytes and matter most


@dataclass(frozen=True, eq=False)
class Subject:
    """One tensor's change; its decomposition is made once, when a rung first asks for it."""

    name: str
    base: Tensor
    trained: Tensor
    moment: Tensor | None = None

    @cached_property
    def change(self) -> Tensor:
        """The change in float64, of the tensor's shape."""
        return self.trained.double() - self.base.double()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self.trained.shape)

    @cached_property
    def decomposition(self) -> Decomposition:
        """The weighted decomposition of the change as a matrix."""
        matrix = matrix_shape(self.shape)
        return decompose(self.name, self.change.reshape(matrix), self.trained.reshape(matrix), self.moment)

    @property
    def rank_bytes(self) -> int:
        """What one more rank costs."""
        return METHODS["factors"].nbytes(self.shape, 1)

    @property
    def worth(self) -> float:
        """The most output power a byte can hold in this tensor: that of the first part; 0 where there is no choice."""
        return 0.0 if self.fixed else float(self.decomposition.power_K[0]) / self.rank_bytes

    @cached_property
    def fixed(self) -> str | None:
        """The method of a tensor about which there is nothing to choose, or None."""
        if torch.equal(self.trained, self.base):
            return "same"
        if self.change.abs().max() > torch.finfo(torch.float16).max:
            return "float"
        return "half" if self.trained.ndim < 2 or self.trained.numel() < SMALL else None

    def low_rank(self, worth: float) -> Choice:
        """Factors of all parts that are worth that much output power a byte; 4 bits where those are not smaller."""
        if self.fixed:
            return self.fixed, 0
        rank = self.decomposition.rank(worth * self.rank_bytes)
        is_smaller = METHODS["factors"].nbytes(self.shape, rank) < METHODS["int4"].nbytes(self.shape, 0)
        return ("factors", rank) if is_smaller else ("int4", 0)

    def dense(self, method: str) -> Choice:
        """That method; an unchanged tensor stays so, and a small one gets no fewer bits than it always has."""
        if self.fixed == "same" or (self.fixed and method != "float"):
            return self.fixed, 0
        return method, 0

    def encode(self, choice: Choice) -> Piece:
        """The piece of that method and rank."""
        method, rank = choice
        arrays = ENCODERS[method](self, rank)
        return Piece(self.name, self.shape, method, rank, tuple(array.flatten() for array in arrays))


def _encode_factors(subject: Subject, rank: int) -> tuple[Tensor, ...]:
    parts = subject.decomposition
    return quantise.quantise_factors(parts.left_MK[:, :rank], parts.right_KN[:rank])


def _encode_int4(subject: Subject, rank: int) -> tuple[Tensor, ...]:
    integers, scales = quantise.quantise_groups(subject.change.flatten(), bits=4)
    return quantise.pack_nibbles(integers), scales


ENCODERS: dict[str, Callable[[Subject, int], tuple[Tensor, ...]]] = {
    "same": lambda subject, rank: (),
    "factors": _encode_factors,
    "int4": _encode_int4,
    "int8": lambda subject, rank: quantise.quantise_groups(subject.change.flatten(), bits=8),
    "half": lambda subject, rank: (subject.change.half(),),
    "float": lambda subject, rank: (subject.trained.clone(),),
}
