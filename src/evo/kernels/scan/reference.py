"""The definition of the scan, one token at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def states(decay_BTX: Tensor, input_BTX: Tensor, before_BX: Tensor) -> Tensor:
    """h_t = decay_t h_{t-1} + input_t for t = 0, 1, ..., with h_{-1} = before: (B, T, X)."""
    found: list[Tensor] = []
    for t in range(input_BTX.shape[1]):
        before_BX = decay_BTX[:, t] * before_BX + input_BTX[:, t]
        found.append(before_BX)
    return torch.stack(found, dim=1) if found else input_BTX.clone()
