"""Tensors that follow from settings alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.operators import lasting_tensors


@dataclass
class Constant:
    """A tensor that follows from settings: kept in float64, handed out per device and dtype."""

    values: Tensor

    def __post_init__(self) -> None:
        self._ready: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The constant on the device of `x`, in its dtype or the one given."""
        key = (x.device, dtype or x.dtype)
        if key not in self._ready:
            with lasting_tensors():
                self._ready[key] = self.values.to(key[1]).to(key[0])
        return self._ready[key]
