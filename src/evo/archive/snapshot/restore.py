"""From a base and a snapshot to weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from evo.archive.snapshot.methods import METHODS
from evo.archive.snapshot.record import EncodedTensor, Snapshot, SnapshotError


def restore(base: Mapping[str, Tensor], snapshot: Snapshot, check_base: bool = True) -> dict[str, Tensor]:
    """The weights that a snapshot holds.

    Args:
        base: the weights that the change was taken from, by name; not modified.
        snapshot: the change.
        check_base: demand the very same base, bit for bit. Turn it off for initial weights drawn on other hardware,
            which may differ in the last bit; names and shapes are checked all the same.

    Returns:
        New tensors by name, in the order, dtype and device of the base.

    Raises:
        SnapshotError: another base (names, shapes, or with `check_base` values).
    """
    pieces = {piece.name: piece for piece in snapshot.pieces}
    differing = sorted(base.keys() ^ pieces.keys())
    if differing:
        raise SnapshotError(f"base and snapshot do not hold the same tensors: only one of them has '{differing[0]}'")
    for name, piece in pieces.items():
        if tuple(base[name].shape) != piece.shape:
            raise SnapshotError(f"tensor '{name}': base of shape {tuple(base[name].shape)}, snapshot of {piece.shape}")
    if check_base and digest_weights(base) != snapshot.base_digest:
        raise SnapshotError("the snapshot was taken from another base: names and shapes agree, values differ")
    return {name: _restore_one(base[name], pieces[name]) for name in base}


def digest_weights(weights: Mapping[str, Tensor]) -> str:
    """A digest of names, shapes and fp32 values, whatever the order of names: 32 hexadecimal digits."""
    state = hashlib.sha256()  # twice as fast as others where the processor has instructions for it
    for name in sorted(weights):
        tensor = weights[name].detach().to("cpu", torch.float32).contiguous()
        state.update(f"{name}{tuple(tensor.shape)}".encode())
        state.update(tensor.numpy().tobytes())
    return state.hexdigest()[:32]


def _restore_one(base: Tensor, piece: EncodedTensor) -> Tensor:
    """The tensor, computed where the arrays are."""
    if not piece.arrays:
        return base.detach().clone()
    method = METHODS[piece.method]
    value = method.decode(piece.arrays, piece.shape, piece.rank).reshape(piece.shape)
    if not method.is_whole:
        value = base.detach().to(value.device, torch.float32) + value.float()
    return value.to(base.device, base.dtype, copy=True)
