"""What is in a snapshot, in numbers: for people and for reports."""

from __future__ import annotations

from dataclasses import dataclass

from evo.archive.snapshot.blob import to_bytes
from evo.archive.snapshot.record import Snapshot


@dataclass(frozen=True)
class TensorRow:
    """One tensor: how it is held, at what rank (0: no factors), in how many bytes, against how many in fp32."""

    name: str
    shape: tuple[int, ...]
    method: str
    rank: int
    nbytes: int
    fp32_bytes: int


@dataclass(frozen=True)
class Summary:
    """A snapshot in numbers.

    `nbytes` counts the whole blob, header included, and so does `compression` = fp32_bytes / nbytes. `increase` is the
    relative increase of the held-out loss by restoring, as it was measured when the snapshot was made.
    """

    rows: tuple[TensorRow, ...]
    nbytes: int
    fp32_bytes: int
    compression: float
    loss_trained: float
    loss_restored: float
    increase: float
    tolerance: float
    evaluations: int
    base_digest: str
    metadata: tuple[tuple[str, str], ...]


def summarise(snapshot: Snapshot) -> Summary:
    """The rows by name, and the totals."""
    nbytes = len(to_bytes(snapshot))
    return Summary(
        rows=tuple(
            TensorRow(piece.name, piece.shape, piece.method, piece.rank, piece.nbytes, piece.fp32_bytes)
            for piece in snapshot.pieces
        ),
        nbytes=nbytes,
        fp32_bytes=snapshot.fp32_bytes,
        compression=snapshot.fp32_bytes / nbytes,
        loss_trained=snapshot.loss_trained,
        loss_restored=snapshot.loss_restored,
        increase=snapshot.increase,
        tolerance=snapshot.tolerance,
        evaluations=snapshot.evaluations,
        base_digest=snapshot.base_digest,
        metadata=tuple(sorted(snapshot.metadata.items())),
    )
