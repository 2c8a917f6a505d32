"""Vectors in few bits, each with a scale of its own."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from evo.blocks import nf4
from evo.blocks.cache.policy import Store


class Packer(ABC):
    """Packs x / s, |x / s| <= `top`, where s = max |x| / `top` of each vector."""

    top: ClassVar[float]

    @abstractmethod
    def codes(self, x: Tensor) -> Tensor:
        """(..., K) scaled float32 -> codes."""

    @abstractmethod
    def values(self, codes: Tensor, width: int) -> Tensor:
        """Codes -> (..., K) float32."""


class Int8(Packer):
    """The nearest integer."""

    top = 127.0

    def codes(self, x: Tensor) -> Tensor:
        return x.round().to(torch.int8)

    def values(self, codes: Tensor, width: int) -> Tensor:
        del width
        return codes.float()


class Fp8(Packer):
    """The nearest float with 4 bits of exponent and 3 of mantissa, kept as its byte."""

    top = 448.0

    def codes(self, x: Tensor) -> Tensor:
        return x.to(torch.float8_e4m3fn).view(torch.uint8)

    def values(self, codes: Tensor, width: int) -> Tensor:
        del width
        return codes.view(torch.float8_e4m3fn).float()


class Nf4(Packer):
    """The nearest of sixteen levels, two in a byte."""

    top = 1.0

    def codes(self, x: Tensor) -> Tensor:
        return nf4.nearest(x)

    def values(self, codes: Tensor, width: int) -> Tensor:
        return nf4.values(codes, width)


@dataclass(frozen=True)
class Packed:
    """Vectors (..., K) in the bits of a store. codes: as its packer makes them; scales: bfloat16, (..., 1)."""

    codes: Tensor
    scales: Tensor
    store: Store
    width: int
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that they take."""
        return self.codes.nbytes + self.scales.nbytes


Vectors = Tensor | Packed
"""Vectors of earlier positions, (B, S, ..., K), as they are or packed."""


@cache
def packer_of(store: Store) -> Packer:
    """The packer of a store that has one."""
    module, _, name = store.packer.partition(":")
    return getattr(importlib.import_module(module), name)()


def pack(x: Tensor, store: Store) -> Packed:
    """Vectors (..., K) in the bits of a store; zeros stay zeros."""
    packer = packer_of(store)
    scales = (x.float().abs().amax(-1, keepdim=True) / packer.top).bfloat16()
    scaled = x.float() / scales.float().clamp_min(torch.finfo(torch.float32).tiny)
    return Packed(packer.codes(scaled.clamp(-packer.top, packer.top)), scales, store, x.shape[-1], x.dtype)


def unpack(kept: Vectors) -> Tensor:
    """The vectors again, in their dtype."""
    if isinstance(kept, Tensor):
        return kept
    values = packer_of(kept.store).values(kept.codes, kept.width)
    return (values * kept.scales.float()).to(kept.dtype)


def count(kept: Vectors) -> int:
    """The number of positions."""
    return (kept if isinstance(kept, Tensor) else kept.codes).shape[1]


def appended(kept: Vectors, new_BTX: Tensor, store: Store) -> Vectors:
    """What is kept, as it is, with the vectors of T further positions behind it in the bits of a store."""
    if isinstance(kept, Tensor):
        if not store.packer:
            return torch.cat((kept, new_BTX), dim=1) if kept.shape[1] else new_BTX
        kept = pack(kept, store)
    new = pack(new_BTX, kept.store)
    codes, scales = torch.cat((kept.codes, new.codes), dim=1), torch.cat((kept.scales, new.scales), dim=1)
    return replace(new, codes=codes, scales=scales)


def picked(kept: Vectors, pick: Callable[[Tensor], Tensor]) -> Vectors:
    """Those of some positions, as they are kept: `pick` takes them out of (B, S, ..., X)."""
    if isinstance(kept, Tensor):
        return pick(kept)
    return replace(kept, codes=pick(kept.codes), scales=pick(kept.scales))
