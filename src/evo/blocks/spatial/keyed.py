"""Means of values by weights of places and of keys together, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 16
"""Tokens that meet one another pair by pair and channel by channel; all before them are two matrix products."""


def keyed_means(logits_BHTS: Tensor, k_BSC: Tensor, v_BSC: Tensor) -> Tensor:
    """sum_s e^(w_ts + k_s) v_s / sum_s e^(w_ts + k_s) by channel (Zhai et al. 2105.14103, eq. 2), (B, T, C).

    logits_BHTS: w by part of the channels for the last T of S tokens, -inf for what is not seen; each sees itself.
    Nothing overflows: all exponents are less the largest that the token sees.
    """
    heads, tokens, total = logits_BHTS.shape[1:]
    k_BHSC, v_BHSC = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (k_BSC, v_BSC))
    found: list[Tensor] = []
    for start in range(0, tokens, ROWS):
        rows_BHRS = logits_BHTS[:, :, start : start + ROWS]
        first = total - tokens + start
        near = slice(first, first + rows_BHRS.shape[2])
        parts = [_pair_by_pair(rows_BHRS[..., near], k_BHSC[:, :, near], v_BHSC[:, :, near])]
        if first:
            parts.append(_in_products(rows_BHRS[..., :first], k_BHSC[:, :, :first], v_BHSC[:, :, :first]))
        most_BHRC = torch.stack([most for most, _, _ in parts]).amax(0)
        shares = [(most - most_BHRC).exp() for most, _, _ in parts]
        sums_BHRC = torch.stack([share * part[1] for share, part in zip(shares, parts, strict=True)]).sum(0)
        weights_BHRC = torch.stack([share * part[2] for share, part in zip(shares, parts, strict=True)]).sum(0)
        found.append(sums_BHRC / weights_BHRC)
    return torch.cat(found, dim=2).transpose(1, 2).flatten(-2)


Part = tuple[Tensor, Tensor, Tensor]
"""What exponents of some tokens were lowered by, their weighed values, and their weights, (B, H, R, C) each."""


def _pair_by_pair(logits_BHRS: Tensor, k_BHSC: Tensor, v_BHSC: Tensor) -> Part:
    exponents_BHRSC = logits_BHRS[..., None] + k_BHSC[:, :, None]
    most_BHRC = exponents_BHRSC.detach().amax(3)
    weights_BHRSC = (exponents_BHRSC - most_BHRC[:, :, :, None]).exp()
    return most_BHRC, (weights_BHRSC * v_BHSC[:, :, None]).sum(3), weights_BHRSC.sum(3)


def _in_products(logits_BHRS: Tensor, k_BHSC: Tensor, v_BHSC: Tensor) -> Part:
    most_BHR1, most_BH1C = logits_BHRS.detach().amax(-1, keepdim=True), k_BHSC.detach().amax(2, keepdim=True)
    rows_BHRS = (logits_BHRS - most_BHR1.masked_fill(most_BHR1 == -torch.inf, 0.0)).exp()
    keys_BHSC = (k_BHSC - most_BH1C).exp()
    return most_BHR1 + most_BH1C, rows_BHRS @ (keys_BHSC * v_BHSC), rows_BHRS @ keys_BHSC
