"""Which positions a cache keeps, and where what it kept stands."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.attention import Stencil


def require_past(stencil: Stencil, end: int) -> None:
    """Raise ValueError if queries before `end` see positions from there on."""
    if not stencil.causal:
        raise ValueError("attention that is not causal cannot continue a sequence: it sees positions still to come")
    if end < stencil.together:
        raise ValueError(f"a prefix of {stencil.together} tokens is read in one piece: {end} are there so far")


def slots(kept_BSX: Tensor, seen: int, limit: int | None, sinks: int) -> Tensor | None:
    """The position of each kept vector after `seen` tokens and those that came now; None where s stands at s."""
    if limit is None or seen <= limit:
        return None
    device, start = kept_BSX.device, seen - (limit - sinks)
    behind = torch.arange(start, start + kept_BSX.shape[1] - sinks, device=device)
    return torch.cat((torch.arange(sinks, device=device), behind))


def latest(x_BSX: Tensor, seen: int, limit: int | None, sinks: int) -> Tensor:
    """The first `sinks` and the latest of what is kept after `seen` tokens, `limit` in all."""
    if limit is None or seen <= limit:
        return x_BSX
    return torch.cat((x_BSX[:, :sinks], x_BSX[:, x_BSX.shape[1] - (limit - sinks) :]), dim=1)


def append_tokens(past_BSGX: Tensor, x_BTGX: Tensor) -> Tensor:
    """Past and present one after another."""
    return torch.cat((past_BSGX, x_BTGX), dim=1) if past_BSGX.shape[1] else x_BTGX
