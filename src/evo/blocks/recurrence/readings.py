"""Other ways to read the state of a recurrence than by the query itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.base import compute_dtype, in_own_precision
from evo.kernels.dispatch import choose
from evo.kernels.plain import plain_call
from evo.kernels.recurrence import recur
from evo.kernels.recurrence.levels import TABLE, Levels

Heads = tuple[Tensor, Tensor, Tensor]
LEAST_RIDGE = 0.25
"""The least that is added to the diagonal of a sum of k k^T before it is inverted (MesaNet)."""
CG_EPS = 1e-20
"""Added to what conjugate gradients divide by, so that they stand still once nothing is left."""


def read_solved(
    heads: Heads, ridge_HK: Tensor, steps: int, memory_BHKX: Tensor | None, scale: float | None, called: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """q (sum k k^T + diag(ridge))^{-1} sum k^T v, both sums decayed, and the memory of both, (B, H, K, V + K).

    heads: v has the keys behind it, written by the same share. called: what `recur` is given besides.
    """
    q, k, written = heads
    values, keys = written.split([written.shape[-1] - k.shape[-1], k.shape[-1]], dim=-1)
    memory, gram = None, None
    if memory_BHKX is not None:
        memory, gram = memory_BHKX.split([values.shape[-1], keys.shape[-1]], dim=-1)
    wide = compute_dtype(q)
    ridge_HK, gram_after = F.softplus(ridge_HK.to(wide)) + LEAST_RIDGE, torch.empty(0)

    def product(p: Tensor) -> Tensor:
        nonlocal gram_after
        found, gram_after = recur(p, k.to(wide), keys.to(wide), **called, scale=1.0, initial_state_BHKV=gram)
        return found + ridge_HK * p

    with in_own_precision(q.device):
        solved = conjugate_gradients(product, q.to(wide), steps)
    o, memory_after = recur(solved.to(q.dtype), k, values, **called, scale=scale, initial_state_BHKV=memory)
    return o, torch.cat((memory_after, gram_after), dim=-1)


def conjugate_gradients(product: Callable[[Tensor], Tensor], q: Tensor, steps: int) -> Tensor:
    """x near A^{-1} q, of which `product` gives A p, along the last dimension (Hestenes & Stiefel 1952)."""
    x, rest, p = torch.zeros_like(q), q, q
    left = rest.square().sum(-1, keepdim=True)
    for _ in range(steps):
        along = product(p)
        far = left / ((p * along).sum(-1, keepdim=True) + CG_EPS)
        x, rest = x + far * p, rest - far * along
        now = rest.square().sum(-1, keepdim=True)
        p, left = rest + now / (left + CG_EPS) * p, now
    return x


def read_by_level(
    heads: Heads,
    weight_BTHL: Tensor,
    states_BHLKV: Tensor | None,
    seen_B: Tensor | None,
    scale: float | None,
    called: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the levels' reads by their weights; their states, and how many tokens they hold."""
    q, k, v = heads
    B, _, H, L = weight_BTHL.shape
    if states_BHLKV is None or seen_B is None:
        states_BHLKV = weight_BTHL.new_zeros(B, H, L, k.shape[-1], v.shape[-1])
        seen_B = torch.zeros(B, dtype=torch.long, device=q.device)
    parts = {name: called[name] for name in ("log_decay", "beta_BTH", "segments_BT")}
    run = choose(TABLE, plain_call(TABLE, q), called["backend"]).backend.run
    with in_own_precision(q.device):
        o, after = run(q, k, v, weight_BTHL, Levels(states_BHLKV, seen_B), **parts)
    o = (o * (k.shape[-1] ** -0.5 if scale is None else scale)).to(q.dtype)
    return o, after.states_BHLKV, after.seen_B
