"""Heads that are taken from others."""

from __future__ import annotations

import torch
from torch import Tensor

Lambdas = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def halves_paired(v_BTGV: Tensor, ratio: int) -> Tensor:
    """Values as the scores of differential heads meet them: those of both halves side by side, for both."""
    paired_BTGV = torch.cat(v_BTGV.chunk(2, dim=2), dim=-1)
    return torch.cat((paired_BTGV.repeat_interleave(ratio, dim=2), paired_BTGV), dim=2)


def halves_repeated(k_BTGK: Tensor, ratio: int) -> Tensor:
    """Keys as those scores meet them: of the first half, each for `ratio` times as many heads, and of the second."""
    if ratio == 1:
        return k_BTGK
    first_BTGK, second_BTGK = k_BTGK.chunk(2, dim=2)
    return torch.cat((first_BTGK.repeat_interleave(ratio, dim=2), second_BTGK), dim=2)


def halves_differed(o_BTHV: Tensor, lambdas: Lambdas, start: float | None, ratio: int) -> Tensor:
    """o1 - lambda o2 of the parts of differential heads (Ye et al. 2024, eq. 1), each of the last taken from `ratio`
    others; as they are without lambdas."""
    one_q, one_k, two_q, two_k = lambdas
    if start is None or one_q is None or one_k is None or two_q is None or two_k is None:
        return o_BTHV
    one, two = (one_q * one_k).sum().exp(), (two_q * two_k).sum().exp()
    noise = o_BTHV.shape[2] // (ratio + 1)
    first, second = o_BTHV.split((ratio * noise, noise), dim=2)
    return first - (one - two + start) * second.repeat_interleave(ratio, dim=2)


def neighbours_differed(o_BTHV: Tensor, shares_BTP: Tensor) -> Tensor:
    """o_s - sigmoid(share_s) o_n of each head s, n the last one of its group: groups of two are pairs of neighbours
    (Differential Transformer V2), larger ones those of grouped differential attention (2510.06949).

    shares_BTP: those of all heads but the last of each group.
    """
    groups = o_BTHV.shape[2] - shares_BTP.shape[2]
    o_BTGJV = o_BTHV.unflatten(2, (groups, -1))
    shares_BTGJ = shares_BTP.sigmoid().unflatten(2, (groups, -1))
    return (o_BTGJV[:, :, :, :-1] - shares_BTGJ[..., None] * o_BTGJV[:, :, :, -1:]).flatten(2, 3)
