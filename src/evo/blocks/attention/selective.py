"""Selective attention: what a query scores is lowered for all later ones."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.blocks.base import Distances, compute_dtype
from evo.kernels.documents import document_starts


def passed_over(
    q_BTHK: Tensor,
    keys_BSGK: Tensor,
    scale: float,
    at: Distances,
    segments_BT: Tensor | None,
    before_BSR: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """sum over earlier queries u of relu(q_u k_s scale), u > s, of each key but a text's first (Leviathan et al.
    2410.02703, eq. 2): for these queries (B, R, T, S), and for later ones, (B, S, R); R is 1 or the number of heads.

    q_BTHK: the queries that speak, one for all heads or each for its own. before_BSR: the sums so far, of the first
    keys.
    """
    compute = compute_dtype(q_BTHK)
    asked_BGJTK = q_BTHK.to(compute).transpose(1, 2).unflatten(1, (keys_BSGK.shape[2], -1))
    scores_BRTS = (asked_BGJTK @ keys_BSGK.to(compute).permute(0, 2, 3, 1)[:, :, None]).flatten(1, 2) * scale
    counts = (at.of_TS > 0) & (at.places_S > 0)
    if segments_BT is not None:
        is_same = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
        counts = counts & is_same & ~document_starts(segments_BT)[:, None, None]
    scores_BRTS = scores_BRTS.relu().masked_fill(~counts, 0.0)
    sums_BRTS = scores_BRTS.cumsum(2)
    if before_BSR is not None:
        missing = keys_BSGK.shape[1] - before_BSR.shape[1]
        sums_BRTS = sums_BRTS + torch.nn.functional.pad(before_BSR, (0, 0, 0, missing)).transpose(1, 2)[:, :, None]
    return sums_BRTS - scores_BRTS, sums_BRTS[:, :, -1].transpose(1, 2)
