"""A snapshot in memory: one piece a tensor, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from evo.archive.snapshot.entropy import cost_bytes


class SnapshotError(ValueError):
    """A snapshot that cannot be made, read or restored; the message names the tensor or the fault."""


@dataclass(frozen=True, eq=False)
class EncodedTensor:
    """How one tensor's change since its base is held.

    Attributes:
        name: the tensor's name.
        shape: the tensor's shape.
        method: a name in `evo.archive.snapshot.methods.METHODS`.
        rank: columns of the factors; 0 for methods without factors.
        arrays: 1-D tensors whose dtypes and lengths are the method's layout for that shape and rank.
    """

    name: str
    shape: tuple[int, ...]
    method: str
    rank: int
    arrays: tuple[Tensor, ...]

    def on_host(self) -> EncodedTensor:
        """The same with its arrays on the CPU."""
        return replace(self, arrays=tuple(array.cpu() for array in self.arrays))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, int8 ones as they are coded; the file adds a line of its table."""
        return sum(
            cost_bytes(array.numpy()) if array.dtype == torch.int8 else array.numel() * array.element_size()
            for array in self.arrays
        )

    @property
    def fp32_bytes(self) -> int:
        """Bytes of the tensor in fp32."""
        return 4 * math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The change of a model's weights since a base, and the held-out loss that it costs.

    Attributes:
        pieces: one a tensor, by name.
        base_digest: digest of the base it applies to (`evo.archive.snapshot.restore.digest_weights`).
        tolerance: the relative increase of the loss that was asked for.
        loss_trained: held-out loss of the trained weights, in the unit of the caller's evaluation (bits per target).
        loss_restored: the same, measured with the restored weights.
        evaluations: how often the loss was measured to find this snapshot.
        metadata: the caller's own text (parent, spec hash, ...), passed through.
    """

    pieces: tuple[EncodedTensor, ...]
    base_digest: str
    tolerance: float
    loss_trained: float
    loss_restored: float
    evaluations: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def increase(self) -> float:
        """Relative increase of the held-out loss by restoring; 0.01 is 1 % worse, negative is better."""
        return relative_increase(self.loss_trained, self.loss_restored)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all arrays; the blob adds its header and the coder's states."""
        return sum(piece.nbytes for piece in self.pieces)

    @property
    def fp32_bytes(self) -> int:
        """Bytes of all tensors in fp32."""
        return sum(piece.fp32_bytes for piece in self.pieces)


def relative_increase(before: float, after: float) -> float:
    """(after - before) / |before|; infinite where only `before` is zero, NaN where either is."""
    if after == before:
        return 0.0
    return (after - before) / abs(before) if before else math.copysign(math.inf, after)
