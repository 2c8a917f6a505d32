"""Attention through torch's scaled_dot_product_attention, which picks the vendor's kernel (cuDNN, flash, CPU flash)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.attention.call import AttentionCall
from evo.kernels.attention.reference import positions, visible
from evo.kernels.operators import in_transform


def reasons(problem: AttentionCall) -> list[str]:
    """Why SDPA cannot express this call."""
    found = []
    if problem.has_soft_cap:
        found.append("SDPA has no soft cap")
    if problem.has_sink_logits:
        found.append("SDPA has no learned sink logit")
    if problem.batch == 0 or problem.queries == 0 or problem.keys == 0:
        found.append("SDPA is not asked to run on an empty tensor")
    if problem.device == "cuda" and problem.needs_grad and problem.must_repeat:
        found.append("SDPA's gradients on CUDA do not repeat their bytes")
    if in_transform():
        found.append("torch.func would call SDPA once a member")
    return found


def run(problem: AttentionCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict) -> Tensor:
    """q (B, T, H, K), k (B, S, G, K), v (B, S, G, V) -> (B, T, H, V)."""
    q, k, v = q.transpose(1, 2), k.to(q.dtype).transpose(1, 2), v.to(q.dtype).transpose(1, 2)
    grouped = problem.kv_heads != problem.heads
    if problem.is_plain_causal or problem.is_plain_full or _sees_all(problem):
        o = F.scaled_dot_product_attention(q, k, v, is_causal=problem.is_plain_causal, scale=scale, enable_gqa=grouped)
        return o.transpose(1, 2)
    seen, blind = _mask(problem, q, parts)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
    if blind is not None:
        o = o.masked_fill(blind, 0.0)
    return o.transpose(1, 2)


def _sees_all(problem: AttentionCall) -> bool:
    """One query at the end of a plain cache sees every key."""
    return problem.stencil.is_plain and not problem.needs_mask and problem.offset >= problem.keys - 1


def _mask(problem: AttentionCall, q_BHTK: Tensor, parts: dict) -> tuple[Tensor, Tensor | None]:
    """The boolean or additive mask, and the rows that see nothing (opened here, zeroed after)."""
    offset, slots, segments = parts["query_offset"], parts["key_positions_S"], parts["segments"]
    query_T1, key_1S = positions(problem.queries, problem.keys, offset, slots, q_BHTK.device)
    seen = visible(problem.stencil, query_T1, key_1S, segments)
    blind = None
    if slots is not None or segments is not None or problem.queries + offset > problem.keys:
        blind = ~seen.any(dim=-1, keepdim=True)
        seen = seen | blind
    slopes_H, bias_HTS = parts["alibi_slopes_H"], parts["bias_HTS"]
    if slopes_H is None and bias_HTS is None:
        return seen, blind
    bias = torch.zeros((), dtype=q_BHTK.dtype, device=q_BHTK.device) if bias_HTS is None else bias_HTS.to(q_BHTK.dtype)
    if slopes_H is not None:
        distance_TS = (query_T1 - key_1S).abs().to(q_BHTK.dtype)
        bias = bias - slopes_H.to(q_BHTK.dtype)[:, None, None] * distance_TS
    return torch.where(seen, bias, float("-inf")), blind
