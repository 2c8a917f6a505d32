"""Scores of attention mixed over groups of heads, the latest queries and the keys around, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class ScoreMix(NamedTuple):
    """What is added to products before the softmax, weights (H, g, queries, keys), and to weights after it, (H, g, 1,
    1); g heads lie in a group. None adds nothing."""

    before: Tensor | None
    after: Tensor | None


def mixed(scores_BHTS: Tensor, mix_HGQC: Tensor | None, seen: Tensor, segments: tuple[Tensor, Tensor] | None) -> Tensor:
    """scores + sum over heads g of the group, i and j of mix[h, g, i, j] scores[g, t - i, s + j - keys // 2], those of
    unseen keys 0; queries of other documents are left out."""
    if mix_HGQC is None:
        return scores_BHTS
    scores_BHTS = scores_BHTS.masked_fill(~seen, 0.0)
    heads, group, queries, keys = mix_HGQC.shape
    mix_HGQC = mix_HGQC.to(scores_BHTS.dtype)
    total_BHTS = scores_BHTS
    for back in range(queries):
        rows_BHTS = scores_BHTS
        if back:
            rows_BHTS = F.pad(scores_BHTS, (0, 0, back, 0))[:, :, : scores_BHTS.shape[2]]
            if segments is not None:
                query_BT = segments[0]
                before_BT = F.pad(query_BT, (back, 0), value=-1)[:, : query_BT.shape[1]]
                rows_BHTS = rows_BHTS.masked_fill((before_BT != query_BT)[:, None, :, None], 0.0)
        padded = F.pad(rows_BHTS, (keys // 2, keys - 1 - keys // 2))
        total_BHTS = total_BHTS + F.conv2d(padded, mix_HGQC[:, :, back, None, :], groups=heads // group)
    return total_BHTS


def shaped(mix_HC: Tensor | None, queries: int, keys: int) -> Tensor | None:
    """A head's numbers, (H, g queries keys), as `mixed` reads them."""
    return None if mix_HC is None else torch.unflatten(mix_HC, 1, (-1, queries, keys))
