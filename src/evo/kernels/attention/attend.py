"""`attend`: the one entrance to attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evo.kernels.attention.backends import TABLE
from evo.kernels.attention.call import AttentionCall, AttentionExtras, Weigh
from evo.kernels.attention.mixing import ScoreMix
from evo.kernels.attention.stencil import Stencil
from evo.kernels.dispatch import AUTO, choose
from evo.kernels.documents import check_segments
from evo.kernels.operators import needs_grad
from evo.kernels.triton_support import dtype_name


def attend(
    q_BTHK: Tensor,
    k_BSGK: Tensor,
    v_BSGV: Tensor,
    *,
    stencil: Stencil,
    scale: float | None = None,
    soft_cap: float | None = None,
    sink_logits_H: Tensor | None = None,
    alibi_slopes_H: Tensor | None = None,
    bias_HTS: Tensor | None = None,
    query_offset: int = 0,
    key_positions_S: Tensor | None = None,
    segments_BT: Tensor | None = None,
    key_segments_BS: Tensor | None = None,
    keep_BHTS: Tensor | None = None,
    weigh: Weigh = "softmax",
    mix: ScoreMix | None = None,
    repeatable: bool = False,
    backend: str = AUTO,
) -> Tensor:
    """The outputs of softmax attention, softmax(cap(q k^T scale) + bias) v over what `stencil` allows, (B, T, H, V) in
    q's dtype.

    Query i sits at absolute position `query_offset + i`, key j at j or at `key_positions_S[j]` (int64, -1 is an empty
    slot). H is a multiple of G: query head h reads kv head h // (H // G) (GQA, arXiv 2305.13245).
    `scale` defaults to K ** -0.5; `soft_cap` c makes a logit x into c tanh(x / c) (Gemma 2); `sink_logits_H` joins each
    softmax as one more column that is then dropped (gpt-oss); `alibi_slopes_H` adds -slope |t - s| (arXiv 2108.12409);
    `bias_HTS` (broadcastable to (B, H, T, S)) is added to the capped logits; `segments_BT` holds ids of packed
    documents, and only equal ids see each other; `keep_BHTS` (B, H, T, S) multiplies the probabilities (dropout);
    `weigh` names what stands in softmax's place, without a sink; `mix` is what products and weights of other heads,
    queries and keys are added by. A query that sees nothing returns zeros. `repeatable`
    gradients have the same bytes every time, as under torch.use_deterministic_algorithms.
    Raises ValueError on shapes that do not fit, BackendError when a backend asked for by name cannot run the call.
    """
    if segments_BT is None and key_segments_BS is not None:
        raise ValueError("key_segments_BS needs segments_BT, the documents of the queries")
    keys_BS = segments_BT if key_segments_BS is None else key_segments_BS
    segments = None if segments_BT is None or keys_BS is None else (segments_BT, keys_BS)
    extras = AttentionExtras(
        soft_cap,
        sink_logits_H,
        alibi_slopes_H,
        bias_HTS,
        query_offset,
        key_positions_S,
        segments,
        keep_BHTS,
        weigh,
        mix,
    )
    call = _described(q_BTHK, k_BSGK, v_BSGV, stencil, extras, repeatable)
    run = choose(TABLE, call, backend).backend.run
    scale = q_BTHK.shape[-1] ** -0.5 if scale is None else scale
    return run(call, q_BTHK, k_BSGK, v_BSGV, extras, scale)


def plan(
    q: Tensor, k: Tensor, v: Tensor, stencil: Stencil, *, repeatable: bool = False, **extras: Any
) -> AttentionCall:
    """What these tensors (meta tensors do) and `AttentionExtras` ask for. `dispatch.choose` says which backend runs it,
    and why."""
    return _described(q, k, v, stencil, AttentionExtras(**extras), repeatable)


def _described(
    q: Tensor, k: Tensor, v: Tensor, stencil: Stencil, extras: AttentionExtras, repeatable: bool
) -> AttentionCall:
    _check(q, k, v)
    _check_extras(q, k, extras)
    B, T, H, K = q.shape
    tensors = (q, k, v, extras.sink_logits_H, extras.alibi_slopes_H, extras.bias_HTS)
    return AttentionCall(
        device=q.device.type,
        dtype=dtype_name(q.dtype),
        batch=B,
        queries=T,
        keys=k.shape[1],
        heads=H,
        kv_heads=k.shape[2],
        key_dim=K,
        value_dim=v.shape[-1],
        stencil=stencil,
        offset=extras.query_offset,
        has_soft_cap=extras.soft_cap is not None,
        has_sink_logits=extras.sink_logits_H is not None,
        has_alibi=extras.alibi_slopes_H is not None,
        has_segments=extras.segments is not None,
        has_key_positions=extras.key_positions_S is not None,
        has_bias=extras.bias_HTS is not None,
        has_keep=extras.keep_BHTS is not None,
        weigh=extras.weigh,
        has_mix=extras.mix is not None,
        needs_grad=needs_grad(*tensors),
        must_repeat=repeatable or torch.are_deterministic_algorithms_enabled(),
    )


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(
            f"q, k, v must be (B, T, H, K), (B, S, G, K), (B, S, G, V); found {q.shape}, {k.shape}, {v.shape}"
        )
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q, k, v do not fit each other: {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if k.shape[2] == 0 or q.shape[2] % k.shape[2]:
        raise ValueError(f"query heads ({q.shape[2]}) must be a multiple of kv heads ({k.shape[2]})")


def _check_extras(q: Tensor, k: Tensor, extras: AttentionExtras) -> None:
    """Kernels index these by their shapes as they should be."""
    (B, T, H, _), S = q.shape, k.shape[1]
    for name, size in (("sink_logits_H", H), ("alibi_slopes_H", H), ("key_positions_S", S)):
        vector = getattr(extras, name)
        if vector is not None and vector.shape != (size,):
            raise ValueError(f"{name} must be ({size},), found {tuple(vector.shape)}")
    bias, segments = extras.bias_HTS, extras.segments
    if bias is not None and not _broadcasts(bias.shape, (B, H, T, S)):
        raise ValueError(f"bias_HTS must broadcast to {(B, H, T, S)}, found {tuple(bias.shape)}")
    if extras.keep_BHTS is not None and extras.keep_BHTS.shape != (B, q.shape[2], T, S):
        raise ValueError(f"keep_BHTS must be {(B, q.shape[2], T, S)}, found {tuple(extras.keep_BHTS.shape)}")
    if segments is not None:
        check_segments(segments[0], (B, T))
        check_segments(segments[1], (B, S), "key_segments_BS")
    if extras.weigh != "softmax" and extras.sink_logits_H is not None:
        raise ValueError("a sink joins the sum of a softmax, and of nothing else")
    if extras.soft_cap == 0:
        raise ValueError("soft_cap must not be 0; None is no cap")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    fits = all(size in (1, whole) for size, whole in zip(reversed(shape), reversed(to), strict=False))
    return fits and len(shape) <= len(to)
