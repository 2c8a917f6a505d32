"""Vectors in few bits, each with a scale of its own."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from evo.blocks import nf4
from evo.blocks.cache.policy import Store
from evo.blocks.state import State


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
    """The nearest float with 4 bits of exponent and 3 of mantissa."""

    top = 448.0

    def codes(self, x: Tensor) -> Tensor:
        return x.to(torch.float8_e4m3fn)

    def values(self, codes: Tensor, width: int) -> Tensor:
        del width
        return codes.float()


class Nf4(Packer):
    """The nearest of sixteen levels, two in a byte."""

    top = 1.0

    def codes(self, x: Tensor) -> Tensor:
        return nf4.nearest(x)

    def values(self, codes: Tensor, width: int) -> Tensor:
        return nf4.values(codes, width)


@dataclass(frozen=True)
class Packed:
    """Vectors (..., K) in few bits. codes: as their packer makes them; scales: bfloat16, (..., 1)."""

    codes: Tensor
    scales: Tensor
    width: int
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that they take."""
        return self.codes.nbytes + self.scales.nbytes


@dataclass(frozen=True)
class PackedState(State):
    """A state whose vectors are packed. rest: the state with empty tensors in their place."""

    rest: State
    packed: tuple[Packed, ...]


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
    return Packed(packer.codes(scaled.clamp(-packer.top, packer.top)), scales, x.shape[-1], x.dtype)


def unpack(packed: Packed, store: Store) -> Tensor:
    """The vectors again, in their dtype."""
    values = packer_of(store).values(packed.codes, packed.width)
    return (values * packed.scales.float()).to(packed.dtype)


def packed_state(state: State, store: Store) -> State:
    """A state with the vectors that it declares packed; as it is where it has none."""
    if not store.packer or not state.vectors:
        return state
    found = {name: getattr(state, name) for name in state.vectors}
    rest = replace(state, **{name: x[:, :0] for name, x in found.items()})  # pyright: ignore[reportArgumentType]
    return PackedState(rest, tuple(pack(x, store) for x in found.values()))


def unpacked_state(state: State, store: Store) -> State:
    """The same state again."""
    if not isinstance(state, PackedState):
        return state
    found = {name: unpack(x, store) for name, x in zip(state.rest.vectors, state.packed, strict=True)}
    return replace(state.rest, **found)  # pyright: ignore[reportArgumentType]
