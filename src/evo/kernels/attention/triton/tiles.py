"""Tile sizes of the attention kernels: the shipped ones, and what a GPU without shipped ones chooses among."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from evo.kernels.attention.triton.tile_ops import Form
from evo.kernels.triton_support import is_interpreting
from evo.kernels.tuning import TileChoices


@dataclass(frozen=True)
class Tiles:
    """Rows of a query tile M, of a key tile N, warps and pipeline stages."""

    M: int
    N: int
    warps: int
    stages: int

    def options(self) -> dict[str, int]:
        return {"M": self.M, "N": self.N, "num_warps": self.warps, "num_stages": self.stages}


# By kernel and the larger head dim. The first fits the H100, where it was the fastest; the last fits small GPUs.
HALF = {
    "forward": {
        64: (Tiles(64, 64, 4, 3), Tiles(128, 64, 4, 3), Tiles(64, 32, 4, 2)),
        128: (Tiles(64, 64, 4, 3), Tiles(128, 64, 8, 2), Tiles(64, 32, 4, 2)),
        256: (Tiles(128, 64, 8, 2), Tiles(64, 32, 4, 1)),
    },
    "query gradients": {
        64: (Tiles(64, 64, 4, 3), Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 2)),
        128: (Tiles(64, 64, 4, 2), Tiles(128, 64, 8, 2), Tiles(64, 32, 4, 1)),
        256: (Tiles(128, 32, 8, 2), Tiles(64, 32, 4, 1)),
    },
    "key gradients": {
        64: (Tiles(64, 64, 4, 2), Tiles(32, 64, 4, 2)),
        128: (Tiles(64, 64, 4, 2), Tiles(32, 64, 4, 1)),
        256: (Tiles(32, 64, 8, 1),),
    },
    "bias gradients": {
        64: (Tiles(64, 64, 4, 2), Tiles(64, 32, 4, 1)),
        128: (Tiles(64, 64, 4, 1), Tiles(64, 32, 4, 1)),
        256: (Tiles(64, 32, 4, 1),),
    },
}
SINGLE = {64: (Tiles(64, 32, 4, 2),), 128: (Tiles(32, 32, 4, 2),), 256: (Tiles(32, 16, 8, 1),)}
INTERPRETED = (Tiles(64, 32, 4, 1),)


CHOICES = TileChoices()
"""Of the attention kernels, in this process."""


def candidates(kernel: str, dim: int, dtype: torch.dtype) -> tuple[Tiles, ...]:
    """Tiles by the larger head dim; float32 takes small ones, since its products run outside the tensor cores."""
    if is_interpreting():
        return INTERPRETED
    table = SINGLE if dtype == torch.float32 else HALF[kernel]
    return next(table[size] for size in sorted(table) if dim <= size)


def preferred(kernel: str, q: torch.Tensor, form: Form, more: tuple, run: Callable[[Tiles], Any]) -> Tiles:
    """The tiles with which this GPU runs `kernel` for q's dtype, rows (by powers of two), form and what `more` is
    compiled in."""
    found = candidates(kernel, max(form.K, form.V), q.dtype)
    if len(found) == 1 or q.device.type != "cuda":
        return found[0]
    return CHOICES.tuned(f"attention {kernel}", (str(q.dtype), q.shape[1].bit_length(), form, more), found, run)
