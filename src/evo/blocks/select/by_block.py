"""Blocks of keys: their means, what queries make of these, and whose they are."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.blocks.base import compute_dtype
from evo.blocks.select.module import Asked


def means(x_BSGK: Tensor, size: int) -> Tensor:
    """Those of whole blocks, (B, C, G, K)."""
    whole = x_BSGK.shape[1] // size * size
    return x_BSGK[:, :whole].unflatten(1, (-1, size)).mean(2)


def products(asked: Asked, means_BCGK: Tensor) -> Tensor:
    """Each query with what stands for each block in its key head, (B, G, H / G, T, C), in float32 or float64."""
    compute = compute_dtype(asked.q_BTHK)
    q_BGJTK = asked.q_BTHK.to(compute).transpose(1, 2).unflatten(1, (means_BCGK.shape[2], -1))
    return q_BGJTK @ means_BCGK.to(compute).permute(0, 2, 3, 1)[:, :, None]


def documents(segments_BT: Tensor, blocks: int, size: int) -> Tensor:
    """The document of each of the first blocks, (B, C) in the ids' dtype; of one that holds tokens of several, the
    least number there is, which is no query's."""
    segments_BCS = segments_BT[:, : blocks * size].unflatten(1, (-1, size))
    is_one_BC = (segments_BCS == segments_BCS[..., :1]).all(-1)
    return torch.where(is_one_BC, segments_BCS[..., 0], torch.iinfo(segments_BT.dtype).min)
