"""Dropout whose zeroes follow from a seed on the device: the same in eager, captured and stacked steps.

A place of a tensor is kept or not by an integer hash of the seed, of how many tensors were asked about before, and of
the place's own number. No generator is involved, so a resumed training draws what the whole one draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

BITS = 24
_ODD, _GOLDEN, _MASK = 0x9E3779B1, 0x61C88647, (1 << 31) - 1
"""Multipliers of the hash, below 2^32, and the bits that it keeps."""


@dataclass
class Dropout:
    """The zeroes of one pass (Srivastava et al. 2014).

    rates: by the name of a place, how likely a value there becomes 0; names that are missing drop nothing.
    seed_1: int64, on the device of the pass, below 2^31.
    """

    rates: Mapping[str, float]
    seed_1: Tensor
    asked: int = 0

    def factors(self, shape: tuple[int, ...], place: str, dtype: torch.dtype) -> Tensor | None:
        """0 with the place's rate, else 1 / (1 - rate), in that shape; None where nothing is dropped."""
        rate = self.rates.get(place, 0.0)
        if not rate:
            return None
        self.asked += 1
        size = torch.Size(shape).numel()
        numbers_N = torch.arange(size, device=self.seed_1.device)
        mixed_N = _mix(_mix(self.seed_1 + self.asked * _ODD) + numbers_N)
        kept_N = (mixed_N >> (31 - BITS)) >= round(rate * 2**BITS)
        return (kept_N.to(dtype) / (1.0 - rate)).view(shape)

    def __call__(self, x: Tensor, place: str) -> Tensor:
        """x with some values 0 and the others larger, the same on average."""
        factors = self.factors(tuple(x.shape), place, x.dtype)
        return x if factors is None else x * factors

    def rows(self, x: Tensor, place: str) -> Tensor:
        """x with some rows of the batch 0 and the others larger."""
        factors = self.factors((x.shape[0], *[1] * (x.ndim - 1)), place, x.dtype)
        return x if factors is None else x * factors


def _mix(x: Tensor) -> Tensor:
    """31 bits that look drawn, of an int64 tensor; products stay below 2^63."""
    for factor in (_ODD, _GOLDEN):
        x = x & _MASK
        x = ((x ^ (x >> 15)) * factor) & _MASK
    return x ^ (x >> 13)
