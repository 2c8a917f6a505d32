"""Heads that are taken from others."""

from __future__ import annotations

import torch
from torch import Tensor

Lambdas = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def halves_paired(v_BTGV: Tensor) -> Tensor:
    """Values as the scores of differential heads meet them: those of both halves side by side, for both."""
    return torch.cat(v_BTGV.chunk(2, dim=2), dim=-1).repeat(1, 1, 2, 1)


def halves_differed(o_BTHV: Tensor, lambdas: Lambdas, start: float | None) -> Tensor:
    """o1 - lambda o2 of the two halves of differential heads (Ye et al. 2024, eq. 1); as they are without lambdas."""
    one_q, one_k, two_q, two_k = lambdas
    if start is None or one_q is None or one_k is None or two_q is None or two_k is None:
        return o_BTHV
    one, two = (one_q * one_k).sum().exp(), (two_q * two_k).sum().exp()
    first, second = o_BTHV.chunk(2, dim=2)
    return first - (one - two + start) * second


def neighbours_differed(o_BTHV: Tensor, shares_BTP: Tensor) -> Tensor:
    """o_2p - sigmoid(share_p) o_{2p+1} of pairs of neighbouring heads (Differential Transformer V2)."""
    return o_BTHV[:, :, ::2] - shares_BTP.sigmoid()[..., None] * o_BTHV[:, :, 1::2]
