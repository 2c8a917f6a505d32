"""Attention through torch's scaled_dot_product_attention, which picks the vendor's kernel (cuDNN, flash, CPU flash)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.attention.call import AttentionCall, AttentionExtras
from evo.kernels.attention.reference import positions, visible
from evo.kernels.operators import in_transform


def reasons(call: AttentionCall) -> list[str]:
    """Why SDPA cannot express this call."""
    found = []
    if call.has_soft_cap:
        found.append("SDPA has no soft cap")
    if call.has_sink_logits:
        found.append("SDPA has no learned sink logit")
    found += call.equation_reasons()
    if call.has_keep:
        found.append("multiplies no probabilities")
    if call.batch == 0 or call.queries == 0 or call.keys == 0:
        found.append("SDPA is not asked to run on an empty tensor")
    if call.device == "cuda" and call.needs_grad and call.must_repeat:
        found.append("SDPA's gradients on CUDA do not repeat their bytes")
    if in_transform():
        found.append("torch.func would call SDPA once a member")
    return found


def run(call: AttentionCall, q: Tensor, k: Tensor, v: Tensor, extras: AttentionExtras, scale: float) -> Tensor:
    """q (B, T, H, K), k (B, S, G, K), v (B, S, G, V) -> (B, T, H, V)."""
    q, k, v = q.transpose(1, 2), k.to(q.dtype).transpose(1, 2), v.to(q.dtype).transpose(1, 2)
    grouped = call.kv_heads != call.heads
    if grouped and call.queries == 1 and _sees_all(call):
        return _one_query(q, k, v, scale)
    if call.is_plain_causal or call.is_plain_full or _sees_all(call):
        o = F.scaled_dot_product_attention(q, k, v, is_causal=call.is_plain_causal, scale=scale, enable_gqa=grouped)
        return o.transpose(1, 2)
    seen, blind = _mask(call, q, extras)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    if blind is not None:
        o = o.masked_fill(blind, 0.0)
    return o.transpose(1, 2)


def _one_query(q_BH1K: Tensor, k_BGSK: Tensor, v_BGSV: Tensor, scale: float) -> Tensor:
    """The heads of a group as rows of one head, since torch's `enable_gqa` copies keys for each of them where no vendor
    kernel runs: on a CPU, and where keys are wider than values, as in absorbed latent attention. (B, 1, H, V)."""
    rows_BGPK = q_BH1K.reshape(*k_BGSK.shape[:2], -1, q_BH1K.shape[-1])
    o_BGPV = F.scaled_dot_product_attention(rows_BGPK, k_BGSK, v_BGSV, scale=scale)
    return o_BGPV.flatten(1, 2)[:, None]


def _sees_all(call: AttentionCall) -> bool:
    """One query at the end of a plain cache sees every key."""
    return call.stencil.is_plain and not call.needs_mask and call.offset >= call.keys - 1


def _mask(call: AttentionCall, q_BHTK: Tensor, extras: AttentionExtras) -> tuple[Tensor, Tensor | None]:
    """The boolean or additive mask, and the rows that see nothing (opened here, zeroed after)."""
    offset, slots, segments = extras.query_offset, extras.key_positions_S, extras.segments
    query_T1, key_1S = positions(call.queries, call.keys, offset, slots, q_BHTK.device)
    seen = visible(call.stencil, query_T1, key_1S, segments)
    blind = None
    if slots is not None or segments is not None or call.queries + offset > call.keys:
        blind = ~seen.any(dim=-1, keepdim=True)
        seen = seen | blind
    slopes_H, bias_HTS = extras.alibi_slopes_H, extras.bias_HTS
    if slopes_H is None and bias_HTS is None:
        return seen, blind
    bias = torch.zeros((), dtype=q_BHTK.dtype, device=q_BHTK.device) if bias_HTS is None else bias_HTS.to(q_BHTK.dtype)
    if slopes_H is not None:
        distance_TS = (query_T1 - key_1S).abs().to(q_BHTK.dtype)
        bias = bias - slopes_H.to(q_BHTK.dtype)[:, None, None] * distance_TS
    return torch.where(seen, bias, float("-inf")), blind
