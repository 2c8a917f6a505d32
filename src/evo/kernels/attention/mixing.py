"""Scores of attention mixed over groups of heads, the latest queries and the keys around, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class HeadMix(NamedTuple):
    """What tokens add to the scores of all heads: of scores x, sum over ranks i of out_i (into_i . x), and gains * x.

    into, out: (B, T, I, H). gains: (B, T, H). T: queries, or keys where these say it.
    """

    into: Tensor
    out: Tensor
    gains: Tensor


class Composed(NamedTuple):
    """What queries add to scores, and what keys do; None adds nothing."""

    by_query: HeadMix | None
    by_key: HeadMix | None


class ScoreNetwork(NamedTuple):
    """A network over the heads of each pair: (F, 2 H), (F,), (H, F). It reads products and biases of position. A bias
    behind it would be the same for all keys of a query, which no softmax tells."""

    into: Tensor
    into_bias: Tensor
    out: Tensor


class ScoreMix(NamedTuple):
    """What is added to products before the softmax, weights (H, g, queries, keys), and to weights after it, (H, g, 1,
    1); g heads lie in a group. composed_before, composed_after: what tokens say of the same. network: what is added
    to products and biases. None adds nothing."""

    before: Tensor | None
    after: Tensor | None
    composed_before: Composed | None = None
    composed_after: Composed | None = None
    network: ScoreNetwork | None = None


def mixed(
    scores_BHTS: Tensor,
    mix_HGQC: Tensor | None,
    composed: Composed | None,
    seen: Tensor,
    segments: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Scores, unseen ones 0, with what is added by weights and what tokens add, each to the scores as they are."""
    if mix_HGQC is None and composed is None:
        return scores_BHTS
    scores_BHTS = scores_BHTS.masked_fill(~seen, 0.0)
    total_BHTS = convolved(scores_BHTS, mix_HGQC, segments)
    for mix, letter in zip(composed or (), "ts", strict=False):
        if mix is None:
            continue
        into, out, gains = (part.to(scores_BHTS.dtype) for part in mix)
        inner_BITS = torch.einsum(f"bhts,b{letter}ih->bits", scores_BHTS, into)
        total_BHTS = total_BHTS + torch.einsum(f"bits,b{letter}ih->bhts", inner_BITS, out)
        gains_BHTS = gains.mT[..., None] if letter == "t" else gains.mT[:, :, None]
        total_BHTS = total_BHTS + gains_BHTS * scores_BHTS
    return total_BHTS


def added(products_BHTS: Tensor, biased_BHTS: Tensor, network: ScoreNetwork | None) -> Tensor:
    """Products with their biases, and what a network makes of both: W2 leaky_relu(W1 [products, biases] + b1) over
    the heads of each pair (Zheng et al. 2405.14722, eq. 3)."""
    if network is None:
        return biased_BHTS
    into, into_bias, out = (part.to(products_BHTS.dtype) for part in network)
    read_BXTS = torch.cat((products_BHTS, biased_BHTS - products_BHTS), dim=1)
    inner_BFTS = F.leaky_relu(F.conv2d(read_BXTS, into[..., None, None], into_bias))
    return biased_BHTS + F.conv2d(inner_BFTS, out[..., None, None])


def convolved(scores_BHTS: Tensor, mix_HGQC: Tensor | None, segments: tuple[Tensor, Tensor] | None) -> Tensor:
    """scores + sum over heads g of the group, i and j of mix[h, g, i, j] scores[g, t - i, s + j - keys // 2], those of
    unseen keys 0; queries of other documents are left out."""
    if mix_HGQC is None:
        return scores_BHTS
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
