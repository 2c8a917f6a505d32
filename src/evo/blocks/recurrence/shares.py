"""What of a key's memory is taken out, and how much of a value is written, where that is not one share of both."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from evo.blocks.base import compute_dtype
from evo.kernels.recurrence.reference import decay_factors

SHORT = 1e-6
"""The least squared length of a key by which a step is divided."""

Posed = tuple[Tensor, dict[str, Any]]
"""Values, and what `recur` is given besides q, k and v."""


def integrated(k_BTHK: Tensor, parts: dict[str, Any], integrator: str) -> dict[str, Any]:
    """With the share that a step of size beta along dS/dt = k^T (v - k S) comes to: (1 - exp(-beta |k|²)) / |k|² where
    it is exact (EFLA, 2512.12602), beta / (1 + beta |k|²) where it is implicit (Longhorn, 2407.14207)."""
    if integrator == "explicit":
        return parts
    beta_BTH = parts["beta_BTH"].to(compute_dtype(k_BTHK))
    square_BTH = k_BTHK.to(beta_BTH.dtype).square().sum(-1)
    if integrator == "implicit":
        return {**parts, "beta_BTH": beta_BTH / (1.0 + beta_BTH * square_BTH)}
    square_BTH = square_BTH.clamp_min(SHORT)
    return {**parts, "beta_BTH": -(-beta_BTH * square_BTH).expm1() / square_BTH}


def share_written(v_BTHV: Tensor, parts: dict[str, Any]) -> Posed:
    """beta v, for an outer update, which takes nothing out."""
    beta_BTH = parts["beta_BTH"]
    if beta_BTH is None:
        return v_BTHV, parts
    return v_BTHV * beta_BTH[..., None].to(v_BTHV.dtype), {**parts, "beta_BTH": None}


def erase_less(v_BTHV: Tensor, rate_H: Tensor, parts: dict[str, Any]) -> Posed:
    """beta k^T (v - d k S), d = sigmoid(rate): the delta rule with the share beta d on v / d (Comba, 2506.02475)."""
    share_H = rate_H.sigmoid()
    return v_BTHV / share_H[:, None].to(v_BTHV.dtype), {**parts, "beta_BTH": parts["beta_BTH"] * share_H}


def erase_by_channel(k_BTHK: Tensor, v_BTHV: Tensor, gate_BTHK: Tensor, parts: dict[str, Any]) -> Posed:
    """k^T (beta v - (e k) S), S decayed: a transition D - k^T (e k D), for kernels that read S before its decay."""
    v_BTHV, parts = share_written(v_BTHV, parts)
    erased_BTHK = -gate_BTHK * k_BTHK * decay_factors(parts["log_decay"], k_BTHK)
    return v_BTHV, {**parts, "dplr": (erased_BTHK, k_BTHK)}
