"""Several keys, values and queries of a token, written to one state and read from it at once (Mamba-3's MIMO form)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evo.blocks.recurrence.trapezoid import Written, write_twice
from evo.kernels.recurrence import recur

Heads = tuple[Tensor, Tensor, Tensor]


def of_ranks(x_BTX: Tensor, ranks_HRV: Tensor) -> Tensor:
    """What all heads have side by side times a vector of each rank, (B, T, H, R, V)."""
    return x_BTX.unflatten(-1, (ranks_HRV.shape[0], 1, -1)) * ranks_HRV.to(x_BTX.dtype)


def spread(heads: Heads, ranks_HRV: Tensor, called: dict[str, Any]) -> tuple[Heads, dict[str, Any]]:
    """Each query of a head beside each of its keys, as heads of their own, H R R of them, keys the faster; and decays.

    heads: q and k (B, T, H R, K), v (B, T, H, V), of which value r is v times ranks_HRV[:, r].
    """
    q, k, v = heads
    ranks = ranks_HRV.shape[1]
    q = q.repeat_interleave(ranks, dim=2)
    k = k.unflatten(2, (-1, ranks)).repeat(1, 1, 1, ranks, 1).flatten(2, 3)
    v = (v[:, :, :, None] * ranks_HRV.to(v.dtype)).repeat(1, 1, 1, ranks, 1).flatten(2, 3)
    decay = called["log_decay"]
    if decay is not None:
        decay = decay.repeat_interleave(ranks**2, dim=0 if decay.ndim == 1 else 2)
    return (q, k, v), {**called, "log_decay": decay}


def read_by_rank(
    heads: Heads,
    ranks_HRV: Tensor,
    terms: tuple[Tensor, Tensor] | None,
    before: Written | None,
    memory_BHKV: Tensor | None,
    scale: float | None,
    called: dict[str, Any],
) -> tuple[Tensor, Tensor, Written | None]:
    """What each query reads of the one state, (B, T, H, R, V), that state, and what the next token writes again.

    A state is linear in what is written, so it is the sum of those of its keys: the first holds what was there before.
    """
    ranks, found = ranks_HRV.shape[1], None
    heads, called = spread(heads, ranks_HRV, called)
    if memory_BHKV is not None:
        rest = memory_BHKV.new_zeros(*memory_BHKV.shape[:2], ranks - 1, *memory_BHKV.shape[2:])
        alone_BHRKV = torch.cat((memory_BHKV[:, :, None], rest), dim=2)
        memory_BHKV = alone_BHRKV.repeat(1, 1, ranks, 1, 1).flatten(1, 2)
    if terms is None:
        o, memory = recur(*heads, **called, scale=scale, initial_state_BHKV=memory_BHKV)
    else:
        gamma, beta = (term.repeat_interleave(ranks**2, dim=2) for term in terms)
        if before is not None:
            k, v = (part.unflatten(1, (-1, ranks)).repeat(1, 1, ranks, 1).flatten(1, 2) for part in before)
            before = k, v
        o, memory, (k, v) = write_twice(heads, (gamma, beta), before, memory_BHKV, scale, called)
        k, v = (part.unflatten(1, (-1, ranks, ranks))[:, :, 0].flatten(1, 2) for part in (k, v))
        found = k, v
    read_BTHRV = o.unflatten(2, (-1, ranks, ranks)).sum(4)
    return read_BTHRV, memory.unflatten(1, (-1, ranks, ranks))[:, :, 0].sum(2), found
