"""Decayed scores inside a chunk: (x_t · y_s) weighted by how much of step s is left at step t.

Only exponentials of non-positive numbers are taken, so strong decays underflow to zero and never overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOG_ZERO = -100.0


def lower_mask(size: int, device: torch.device, strict: bool) -> Tensor:
    """Boolean (size, size): s <= t, or s < t when strict."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril(-1 if strict else 0)


def decayed_scores(x_CK: Tensor, y_CK: Tensor, upto_x: Tensor | None, upto_y: Tensor | None, *, strict: bool) -> Tensor:
    """A[t, s] = sum_k x[t, k] exp(upto_x[t, k] - upto_y[s, k]) y[s, k] for s <= t (s < t when strict), else 0.

    x, y (..., C, K); `upto_*` cumulative log decays, None, (..., C, 1) or (..., C, K), with upto_x[t] <= upto_y[s]
    wherever the mask is open. Leading dims broadcast, so that several x or y share their exponentials.
    C is a power of two for channel decays. Returns (..., C, C).
    """
    mask = lower_mask(x_CK.shape[-2], x_CK.device, strict)
    if upto_x is None or upto_y is None:
        return (x_CK @ y_CK.transpose(-1, -2)).masked_fill(~mask, 0.0)
    if upto_x.shape[-1] == 1:
        left = (upto_x - upto_y.transpose(-1, -2)).masked_fill(~mask, float("-inf")).exp()
        return (x_CK @ y_CK.transpose(-1, -2)) * left
    return _channel_scores(x_CK, y_CK, upto_x, upto_y, strict)


def _channel_scores(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    """Lower triangle by halves: a block of 2h rows is two blocks of h rows and the square between them.

    The square is a matmul about the pivot where the first half ends, which lies between every s and every t of it.
    """
    size = x.shape[-2]
    if strict:
        shape = torch.broadcast_tensors(x, y)[0].shape[:-1]  # torch.broadcast_shapes would import sympy, for seconds
        blocks = torch.zeros(*shape, 1, 1, dtype=x.dtype, device=x.device)
    else:
        blocks = (x * (upto_x - upto_y).exp() * y).sum(-1)[..., None, None]
    half = 1
    while half < size:
        x_late, upto_late = (z.unflatten(-2, (-1, 2, half))[..., 1, :, :] for z in (x, upto_x))
        y_early, upto_early = (z.unflatten(-2, (-1, 2, half))[..., 0, :, :] for z in (y, upto_y))
        pivot = upto_early[..., -1:, :]
        square = (x_late * (upto_late - pivot).exp()) @ (y_early * (pivot - upto_early).exp()).transpose(-1, -2)
        first, second = blocks.unflatten(-3, (-1, 2)).unbind(-3)
        above = torch.cat([first, torch.zeros_like(first)], dim=-1)
        blocks = torch.cat([above, torch.cat([square, second], dim=-1)], dim=-2)
        half *= 2
    return blocks.squeeze(-3)
