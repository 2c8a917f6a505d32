"""Stencils: which key positions a query position sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("full", "window", "dilated", "block", "ring", "prefix")


@dataclass(frozen=True)
class Stencil:
    """Which keys s a query t sees. Distances are t - s when causal, |t - s| when not.

    kind      a query sees
    full      everything
    window    distance < size
    dilated   distance in {0, dilation, ..., (size-1) * dilation}
    block     its own block of `size` positions
    ring      distance modulo `period` < size (not causal: the shorter way round the ring)
    prefix    the first `size` positions, and everything that causality allows

    `sinks` adds the first positions to every kind. `causal` removes s > t (except inside a prefix).
    """

    kind: str = "full"
    size: int | None = None
    sinks: int = 0
    causal: bool = True
    dilation: int = 1
    period: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown stencil kind {self.kind!r}; known: {', '.join(KINDS)}")
        if self.kind != "full" and (self.size is None or self.size < 1):
            raise ValueError(f"stencil {self.kind!r} needs a size of at least 1, found {self.size!r}")
        if self.kind == "ring" and (self.period is None or self.period < 1):
            raise ValueError(f"stencil 'ring' needs a period of at least 1, found {self.period!r}")
        if self.dilation < 1 or self.sinks < 0:
            raise ValueError(f"dilation must be >= 1 and sinks >= 0, found {self.dilation} and {self.sinks}")

    @property
    def is_plain(self) -> bool:
        """Whether nothing but causality is masked."""
        return self.kind == "full"

    @property
    def together(self) -> int:
        """How many of the first positions see one another, whatever comes later: they are read in one piece."""
        return self._size if self.kind == "prefix" else 0

    def allows(self, query_T1: Tensor, key_1S: Tensor) -> Tensor:
        """Boolean mask (T, S) from absolute positions; a negative key position is an empty slot and never seen."""
        ahead = key_1S > query_T1
        seen = self._near(query_T1, key_1S) | (key_1S < self.sinks)
        if self.causal:
            seen = seen & ~ahead
        if self.kind == "prefix":
            seen = seen | (key_1S < self._size)
        return seen & (key_1S >= 0)

    @property
    def _size(self) -> int:
        """The size, which every kind but `full` has."""
        assert self.size is not None
        return self.size

    def _near(self, query_T1: Tensor, key_1S: Tensor) -> Tensor:
        distance = query_T1 - key_1S
        if not self.causal:
            distance = distance.abs()
        if self.kind == "window":
            return distance < self._size
        if self.kind == "dilated":
            return (distance < self._size * self.dilation) & (distance % self.dilation == 0)
        if self.kind == "block":
            return query_T1 // self._size == key_1S // self._size
        if self.kind == "ring":
            assert self.period is not None
            round_trip = distance % self.period
            if not self.causal:
                round_trip = torch.minimum(round_trip, (self.period - round_trip) % self.period)
            return round_trip < self._size
        return torch.ones_like(distance, dtype=torch.bool)
