"""How much of one text stands verbatim in another: a score on what was trained on tells nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 64
"""A power of two."""
STRIDE_BYTES = 8
CHUNK_BYTES = 2**22
_FACTOR = 0x9E3779B97F4A7C15
_BUCKET_BITS = 22


def overlap(train: NDArray[np.uint8], held_out: NDArray[np.uint8]) -> float:
    """The share of the held-out text's windows (64 bytes, at every 8th place) that stand in the training text.

    Arrays of shape (bytes,). 0.0 where either is shorter than a window. Windows are compared by 64-bit hashes, so one
    in 2^64 pairs is found by mistake; takes about 50 ms a megabyte.
    """
    if min(len(train), len(held_out)) < WINDOW_BYTES:
        return 0.0
    wanted = np.unique(_hashes(held_out)[::STRIDE_BYTES], return_counts=True)
    is_found = _found(train, wanted[0])
    return float(wanted[1][is_found].sum() / wanted[1].sum())


def _found(train: NDArray[np.uint8], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of the sorted hashes are those of a window of the training text."""
    shift = np.uint64(64 - _BUCKET_BITS)
    may_be = np.zeros(1 << _BUCKET_BITS, dtype=bool)
    may_be[wanted >> shift] = True
    is_found = np.zeros(len(wanted), dtype=bool)
    for start in range(0, len(train) - WINDOW_BYTES + 1, CHUNK_BYTES):
        hashes = _hashes(train[start : start + CHUNK_BYTES + WINDOW_BYTES - 1])
        likely = hashes[may_be[hashes >> shift]]
        at = np.searchsorted(wanted, likely).clip(max=len(wanted) - 1)
        is_found[at[wanted[at] == likely]] = True
    return is_found


def _hashes(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The polynomial hash of the window at every place: windows of 1, 2, 4, ... bytes, each made of two halves."""
    hashes = _mixed(text.astype(np.uint64) + np.uint64(1))
    factor, size = _FACTOR, 1
    while size < WINDOW_BYTES:
        hashes = hashes[:-size] * np.uint64(factor) + hashes[size:]
        factor, size = factor * factor % 2**64, 2 * size
    return _mixed(hashes)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection whose high bits depend on all bits (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
