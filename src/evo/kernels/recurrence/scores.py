"""Decayed scores inside a chunk: (x_t · y_s) weighted by how much of step s is left at step t.

Only exponentials of non-positive numbers are taken, so strong decays underflow to zero and never overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.recurrence import halves

LOG_ZERO = -100.0


def lower_mask(size: int, device: torch.device, strict: bool) -> Tensor:
    """Boolean (size, size): s <= t, or s < t when strict."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril(-1 if strict else 0)


def decayed_scores(x_CK: Tensor, y_CK: Tensor, upto_x: Tensor | None, upto_y: Tensor | None, *, strict: bool) -> Tensor:
    """A[t, s] = sum_k x[t, k] exp(upto_x[t, k] - upto_y[s, k]) y[s, k] for s <= t (s < t when strict), else 0.

    x, y (B, H, N, C, K), or in a stack (S, B, H, N, C, K), which shares its exponentials; `upto_*` cumulative log
    decays, None, (B, H, N, C, 1) or (B, H, N, C, K), with upto_x[t] <= upto_y[s] wherever the mask is open, and one and
    the same unless strict.
    C is a power of two for channel decays. Returns ([S,] B, H, N, C, C).
    """
    mask = lower_mask(x_CK.shape[-2], x_CK.device, strict)
    if upto_x is None or upto_y is None:
        return (x_CK @ y_CK.transpose(-1, -2)).masked_fill(~mask, 0.0)
    if upto_x.shape[-1] == 1:
        left = (upto_x - upto_y.transpose(-1, -2)).masked_fill(~mask, float("-inf")).exp()
        return (x_CK @ y_CK.transpose(-1, -2)) * left
    return _channel_scores(x_CK, y_CK, upto_x, upto_y, strict)


def _channel_scores(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    stacked = tuple(z if z.ndim == 6 else z[None] for z in (x, y, upto_x, upto_y))
    scores = halves.decayed_scores(*stacked, strict)
    return scores if x.ndim == 6 or y.ndim == 6 else scores[0]
