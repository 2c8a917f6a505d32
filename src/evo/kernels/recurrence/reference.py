"""The equations of the recurrence family, one token at a time. Every other backend is compared with this file."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.documents import document_starts


def decay_factors(log_decay: Tensor | None, like_BTHK: Tensor) -> Tensor:
    """exp(log_decay) as (B, T, H, 1) or (B, T, H, K), from None, (H,), (B, T, H) or (B, T, H, K)."""
    B, T, H, _ = like_BTHK.shape
    if log_decay is None:
        return like_BTHK.new_ones(B, T, H, 1)
    factors = log_decay.to(like_BTHK.dtype).exp()
    if factors.ndim == 1:
        return factors[None, None, :, None].expand(B, T, H, 1)
    return factors[..., None] if factors.ndim == 3 else factors


def recurrence(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    *,
    scale: float,
    log_decay: Tensor | None = None,
    beta_BTH: Tensor | None = None,
    dplr: tuple[Tensor, Tensor] | None = None,
    bonus_HK: Tensor | None = None,
    initial_state_BHKV: Tensor | None = None,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) in q's dtype and the final state (B, H, K, V); computes in float32, or float64 for float64 inputs.

    With D_t = exp(log_decay_t), row vectors q, k, v, and S a (K, V) matrix:
      outer    S_t = D_t S_{t-1} + k_t^T v_t                            (linear attention; 2307.08621, 2312.06635)
      delta    S_t = D_t S_{t-1} + beta_t k_t^T (v_t - k_t D_t S_{t-1})   (gated DeltaNet 2412.06464)
      dplr  S_t = D_t S_{t-1} + b_t^T (a_t S_{t-1}) + k_t^T v_t        (RWKV-7 2503.14456)
      o_t = scale q_t S_t, or scale q_t (S_{t-1} + diag(u) k_t^T v_t) with a bonus u (RWKV-6 2404.05892)
    and S_{t-1} = 0 where the id in `segments_BT` differs from that of token t - 1.
    """
    compute = torch.promote_types(q_BTHK.dtype, torch.float32)
    q, k, v = (x.to(compute) for x in (q_BTHK, k_BTHK, v_BTHV))
    factors_BTHK = decay_factors(log_decay, k)
    B, T, H, K = q.shape
    state = q.new_zeros(B, H, K, v.shape[-1]) if initial_state_BHKV is None else initial_state_BHKV.to(compute)
    starts_BT = None if segments_BT is None else document_starts(segments_BT)
    outputs = []
    for t in range(T):
        before = state if starts_BT is None else state.masked_fill(starts_BT[:, t, None, None, None], 0.0)
        state = factors_BTHK[:, t, :, :, None] * before
        if dplr is not None:
            a_BHK, b_BHK = (x[:, t].to(compute) for x in dplr)
            state = state + b_BHK[..., None] * read(a_BHK, before)[:, :, None, :]
        value_BHV = v[:, t]
        if beta_BTH is not None:
            value_BHV = beta_BTH[:, t, :, None].to(compute) * (value_BHV - read(k[:, t], state))
        written = k[:, t, :, :, None] * value_BHV[:, :, None, :]
        state = state + written
        seen = state if bonus_HK is None else before + bonus_HK.to(compute)[..., None] * written
        outputs.append(read(q[:, t], seen) * scale)
    o = torch.stack(outputs, dim=1) if outputs else v
    return o.to(q_BTHK.dtype), state


def read(key_BHK: Tensor, state_BHKV: Tensor) -> Tensor:
    """key S, (B, H, V)."""
    return (key_BHK[:, :, None, :] @ state_BHKV).squeeze(-2)
