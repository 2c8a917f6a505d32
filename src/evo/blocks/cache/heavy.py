"""Which positions a cache keeps by how much attention they got (H2O, Zhang et al. 2023, arXiv 2306.14048)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 256
"""Queries whose shares of all keys are held at a time."""


def attention_got(attend: Callable[..., Tensor], q_BTHK: Tensor, keys_BSGK: Tensor, start: int) -> Tensor:
    """What all queries' shares of each key add up to over the query heads that read it, (B, S, G) in float32.

    attend: attention with everything but q, k, v and the query offset, which is `start` for the first query here.
    """
    batch, keys, groups, _ = keys_BSGK.shape
    units_S1S = torch.eye(keys, device=q_BTHK.device, dtype=q_BTHK.dtype)[:, None]
    values_BSGS = units_S1S.expand(batch, keys, groups, keys)  # a unit vector a key: outputs are shares
    got_BGS = torch.zeros(batch, groups, keys, device=q_BTHK.device)
    for first in range(0, q_BTHK.shape[1], ROWS):
        shares_BTHS = attend(q_BTHK[:, first : first + ROWS], keys_BSGK, values_BSGS, query_offset=start + first)
        got_BGS = got_BGS + shares_BTHS.float().unflatten(2, (groups, -1)).sum((1, 3))
    return got_BGS.transpose(1, 2)


def kept_slots(got_BSG: Tensor, heavy: int, window: int) -> Tensor:
    """The latest `window` slots and the `heavy` ones before them that got most, the earlier where equal, (B, N, G).

    int64, in order of time; each key head has its own.
    """
    behind = got_BSG.shape[1] - window
    ranked_BSG = got_BSG[:, :behind].argsort(dim=1, descending=True, stable=True)
    heavy_BSG = ranked_BSG[:, :heavy].sort(dim=1).values
    latest_S = torch.arange(behind, got_BSG.shape[1], device=got_BSG.device)
    return torch.cat((heavy_BSG, latest_S[None, :, None].expand(len(got_BSG), -1, got_BSG.shape[2])), dim=1)


def taken(x_BSGX: Tensor, slots_BNG: Tensor) -> Tensor:
    """The vectors in those slots, (B, N, G, X)."""
    return x_BSGX.take_along_dim(slots_BNG[..., None], dim=1)
