"""Heads as sums of outer products of factors, in parallel and as a cache keeps them."""

from __future__ import annotations

import torch
from torch import Tensor


def beside(y_BTRK: Tensor, shares_BTC: Tensor) -> Tensor:
    """Each of R vectors, and behind it the shares that heads have of it, (B, T, R, K + H); shares come (B, T, R H)."""
    return torch.cat((y_BTRK, shares_BTC.unflatten(-1, (y_BTRK.shape[2], -1))), dim=-1)


def product(kept_BSRX: Tensor, dim: int) -> Tensor:
    """sum_r share_rh y_r / R of vectors of `dim` channels with their shares behind them: (B, S, H, K)."""
    y_BSRK, shares_BSRH = kept_BSRX.split((dim, kept_BSRX.shape[-1] - dim), dim=-1)
    return shares_BSRH.transpose(-1, -2) @ y_BSRK / y_BSRK.shape[2]


def tied(values_BSGV: Tensor, shared_BS1R: Tensor) -> Tensor:
    """Keys of values but for their last channels, which all key heads share: (B, S, G, V)."""
    own_BSGX = values_BSGV[..., : values_BSGV.shape[-1] - shared_BS1R.shape[-1]]
    return torch.cat((own_BSGX, shared_BS1R.expand(-1, -1, own_BSGX.shape[2], -1)), dim=-1)
