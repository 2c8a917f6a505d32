"""Four bits of a normal law: the nearest of sixteen levels, two in a byte (NF4; Dettmers et al. 2023, appendix E)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.constant import Constant

LEVELS = Constant(
    torch.tensor(
        [
            -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
            -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
            0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
        ],
        dtype=torch.float64,
    )
)  # fmt: skip
"""Of equal probability under N(0, 1), zero among them, scaled to [-1, 1]."""


def nearest(x: Tensor) -> Tensor:
    """(..., K) floats in [-1, 1] -> (..., ceil(K / 2)) uint8, the first of two in the high bits."""
    levels = LEVELS.like(x)
    codes = torch.bucketize(x.contiguous(), (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
    codes = F.pad(codes, (0, codes.shape[-1] % 2)).unflatten(-1, (-1, 2))
    return codes[..., 0] << 4 | codes[..., 1]


def values(codes: Tensor, width: int) -> Tensor:
    """(..., ceil(K / 2)) uint8 -> (..., K) float32; width: K."""
    pairs = torch.stack((codes >> 4, codes & 15), dim=-1).flatten(-2)
    return LEVELS.like(codes, torch.float32)[pairs[..., :width].long()]
