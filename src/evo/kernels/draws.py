"""Random numbers that follow from a seed and a place alone, as operations on the device.

Whoever draws keeps no state: a CUDA graph that is replayed with another seed draws anew, and a sequence that is
decoded a token at a time draws what it draws as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

GOLDEN = -7046029254386353131
"""2^64 divided by the golden ratio, as an int64: what SplitMix64 counts by (Steele et al. 2014)."""
FIRST, SECOND = -4658895280553007687, -7723592293110705685


def uniform(seed: Tensor | int, salt: int, at: Tensor) -> Tensor:
    """Numbers in [0, 1), float32, one for each of the places `at`, int64 of any shape: SplitMix64 of all three.

    seed: an int64 scalar. salt: what sets one user's draws apart from another's.
    """
    spread = seed * GOLDEN if isinstance(seed, Tensor) else _wrapped(seed * GOLDEN)
    mixed = _mixed(_mixed(at * GOLDEN + salt) + spread)
    return _shifted(mixed, 40).to(torch.float32) * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * FIRST
    x = (x ^ _shifted(x, 27)) * SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x >> bits with zeros moved in, as of an unsigned number."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _wrapped(number: int) -> int:
    """A whole number as an int64 keeps it."""
    return (number + 2**63) % 2**64 - 2**63
