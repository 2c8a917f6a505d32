"""Decayed scores inside a chunk: (x_t · y_s) weighted by how much of step s is left at step t.

Only exponentials of non-positive numbers are taken, so strong decays underflow to zero and never overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

SUB_CHUNK = 16
LOG_ZERO = -100.0


def lower_mask(size: int, device: torch.device, strict: bool) -> Tensor:
    """Boolean (size, size): s <= t, or s < t when strict."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril(-1 if strict else 0)


def decayed_scores(x_CK: Tensor, y_CK: Tensor, upto_x: Tensor | None, upto_y: Tensor | None, *, strict: bool) -> Tensor:
    """A[t, s] = sum_k x[t, k] exp(upto_x[t, k] - upto_y[s, k]) y[s, k] for s <= t (s < t when strict), else 0.

    x, y (..., C, K); `upto_*` cumulative log decays, None, (..., C, 1) or (..., C, K), with upto_x[t] <= upto_y[s]
    wherever
    the mask is open. Returns (..., C, C).
    """
    size = x_CK.shape[-2]
    mask = lower_mask(size, x_CK.device, strict)
    if upto_x is None:
        return (x_CK @ y_CK.transpose(-1, -2)).masked_fill(~mask, 0.0)
    if upto_x.shape[-1] == 1:
        left = (upto_x - upto_y.transpose(-1, -2)).masked_fill(~mask, float("-inf")).exp()
        return (x_CK @ y_CK.transpose(-1, -2)) * left
    return _channel_scores(x_CK, y_CK, upto_x, upto_y, strict)


def _channel_scores(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    """Rows in sub-chunks: earlier columns by a matmul about the sub-chunk's start, its own block by the direct sum."""
    size = x.shape[-2]
    rows = []
    for start in range(0, size, SUB_CHUNK):
        stop = min(start + SUB_CHUNK, size)
        here = slice(start, stop)
        blocks = []
        if start:
            pivot = upto_y[..., start - 1 : start, :]
            x_scaled = x[..., here, :] * (upto_x[..., here, :] - pivot).exp()
            y_scaled = y[..., :start, :] * (pivot - upto_y[..., :start, :]).exp()
            blocks.append(x_scaled @ y_scaled.transpose(-1, -2))
        blocks.append(_direct(x[..., here, :], y[..., here, :], upto_x[..., here, :], upto_y[..., here, :], strict))
        if stop < size:
            blocks.append(x.new_zeros(*x.shape[:-2], stop - start, size - stop))
        rows.append(torch.cat(blocks, dim=-1))
    return torch.cat(rows, dim=-2)


def _direct(x: Tensor, y: Tensor, upto_x: Tensor, upto_y: Tensor, strict: bool) -> Tensor:
    mask = lower_mask(x.shape[-2], x.device, strict)
    left = (upto_x[..., :, None, :] - upto_y[..., None, :, :]).masked_fill(~mask[..., None], float("-inf")).exp()
    return torch.einsum("...tk,...tsk,...sk->...ts", x, left, y)
