"""Writes by the trapezoidal rule: a token's own, and that of the token before once more (Mamba-3, 2603.15569)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from evo.blocks.shift import shifted
from evo.kernels.recurrence import recur

Written = tuple[Tensor, Tensor]
"""Keys and values of a token, (B, H, K) and (B, H, V)."""


def shares(step_BTH: Tensor, blend_BTH: Tensor, log_decay_BTH: Tensor) -> tuple[Tensor, Tensor]:
    """gamma = l step, what a token is written by, and beta = (1 - l) step a, by which the one before it is again."""
    return blend_BTH * step_BTH, (1 - blend_BTH) * step_BTH * log_decay_BTH.exp()


def write_twice(
    heads: tuple[Tensor, Tensor, Tensor],
    terms: tuple[Tensor, Tensor],
    before: Written | None,
    memory_BHKV: Tensor | None,
    scale: float | None,
    called: dict[str, Any],
) -> tuple[Tensor, Tensor, Written]:
    """q S_t with S_t = a_t S_{t-1} + beta_t k_{t-1}^T v_{t-1} + gamma_t k_t^T v_t, S behind the last token, and what
    that one writes again: S is the sum of two recurrences, as it is linear in what is written.

    terms: gamma and beta. called: what `recur` is given besides.
    """
    (q, k, v), (gamma_BTH, beta_BTH) = heads, terms
    k_before, v_before = (None, None) if before is None else (part.flatten(-2) for part in before)
    segments_BT = called["segments_BT"]
    earlier_k = shifted(k.flatten(-2), k_before, segments_BT).unflatten(-1, k.shape[-2:])
    earlier_v = shifted(v.flatten(-2), v_before, segments_BT).unflatten(-1, v.shape[-2:])
    now, memory = recur(
        q, k, v * gamma_BTH[..., None].to(v.dtype), **called, scale=scale, initial_state_BHKV=memory_BHKV
    )
    again, beside = recur(q, earlier_k, earlier_v * beta_BTH[..., None].to(v.dtype), **called, scale=scale)
    return now + again, memory + beside, (k[:, -1], v[:, -1])
