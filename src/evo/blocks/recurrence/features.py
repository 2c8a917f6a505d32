"""What a recurrence makes of queries and keys before they meet: feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.flow import Flow

NORM_EPS = 1e-6
SUM_EPS = 1e-6


def l2_normalize(x_BTHK: Tensor) -> Tensor:
    """x / |x| along its last dimension."""
    return x_BTHK * torch.rsqrt(x_BTHK.square().sum(-1, keepdim=True) + NORM_EPS)


def elu_plus_one(x_BTHK: Tensor) -> Tensor:
    """elu(x) + 1 (Katharopoulos et al. 2020)."""
    return F.elu(x_BTHK) + 1.0


def identity(x_BTHK: Tensor) -> Tensor:
    """x."""
    return x_BTHK


def taylor(x_BTHK: Tensor) -> Tensor:
    """[1, x / K^(1/4), x x / sqrt(2 K)], 1 + K + K² channels: q k gives 1 + s + s² / 2, s = q k / sqrt(K) (Based)."""
    dim = x_BTHK.shape[-1]
    squares = (x_BTHK[..., :, None] * x_BTHK[..., None, :]).flatten(-2) / (2 * dim) ** 0.5
    return torch.cat((torch.ones_like(x_BTHK[..., :1]), x_BTHK / dim**0.25, squares), dim=-1)


def squares(x_BTHK: Tensor) -> Tensor:
    """x_i x_j for i <= j, times sqrt(2) where they differ, over sqrt(K): q k gives s² (power attention, 2507.04239)."""
    dim = x_BTHK.shape[-1]
    rows, columns = torch.triu_indices(dim, dim, device=x_BTHK.device)
    counts = torch.where(rows == columns, 1.0, 2.0).to(x_BTHK.dtype)
    return x_BTHK[..., rows] * x_BTHK[..., columns] * (counts / dim).sqrt()


def signs(x_BTHK: Tensor) -> Tensor:
    """[softmax(x), softmax(-x)], 2 K channels (Hedgehog)."""
    return torch.cat((x_BTHK.softmax(-1), (-x_BTHK).softmax(-1)), dim=-1)


def neighbours(x_BTHK: Tensor) -> Tensor:
    """r_i r_{i-1} of r = relu([x, -x]), 2 K channels in a circle (deterministic projection, Schlag et al.)."""
    both = F.relu(torch.cat((x_BTHK, -x_BTHK), dim=-1))
    return both * both.roll(1, dims=-1)


def over_sums(o_BTHV: Tensor, are_positive: bool) -> Tensor:
    """The first of V + 1 channels over the last, (..., V), which may have any sign where features may: then it is held
    away from zero."""
    sums_BTH1 = o_BTHV[..., -1:]
    if are_positive:
        return o_BTHV[..., :-1] / (sums_BTH1 + SUM_EPS)
    far_BTH1 = sums_BTH1.abs().clamp_min(SUM_EPS)
    return o_BTHV[..., :-1] / torch.where(sums_BTH1 < 0, -far_BTH1, far_BTH1)


def mapped(x_BTGK: Tensor, map_GKK: Tensor | None, flow: Flow) -> Tensor:
    """What each head has, through a map of its own."""
    if map_GKK is None:
        return x_BTGK
    return flow.project(x_BTGK.movedim(2, 0), map_GKK).movedim(0, 2)


FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": identity,
    "l2": l2_normalize,
    "elu": elu_plus_one,
    "relu": F.relu,
    "taylor": taylor,
    "squares": squares,
    "signs": signs,
    "neighbours": neighbours,
}
