"""`attend`: the one entrance to attention."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.attention.backends import TABLE
from evo.kernels.attention.call import AttentionCall
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
    repeatable: bool = False,
    backend: str = AUTO,
) -> Tensor:
    """softmax(cap(q k^T scale) + bias) v over what `stencil` allows -> (B, T, H, V) in q's dtype.

    Query i sits at absolute position `query_offset + i`, key j at j or at `key_positions_S[j]` (int64, -1 is an empty
    slot).
    H is a multiple of G: query head h reads kv head h // (H // G) (GQA, arXiv 2305.13245).
    `scale` defaults to K ** -0.5; `soft_cap` c makes a logit x into c tanh(x / c) (Gemma 2); `sink_logits_H` joins each
    softmax as one more column that is then dropped (gpt-oss); `alibi_slopes_H` adds -slope |t - s| (arXiv 2108.12409);
    `bias_HTS` (broadcastable to (B, H, T, S)) is added to the capped logits; `segments_BT` holds ids of packed
    documents, and only equal ids see each other. A query that sees nothing returns zeros. `repeatable` gradients have
    the same bytes every time, as under torch.use_deterministic_algorithms.
    Raises ValueError on shapes that do not fit, BackendError when a backend asked for by name cannot run the problem.
    """
    if key_segments_BS is None:
        key_segments_BS = segments_BT
    elif segments_BT is None:
        raise ValueError("key_segments_BS needs segments_BT, the documents of the queries")
    segments = None if segments_BT is None else (segments_BT, key_segments_BS)
    parts = {
        "soft_cap": soft_cap,
        "sink_logits_H": sink_logits_H,
        "alibi_slopes_H": alibi_slopes_H,
        "bias_HTS": bias_HTS,
        "query_offset": query_offset,
        "key_positions_S": key_positions_S,
        "segments": segments,
    }
    problem = plan(q_BTHK, k_BSGK, v_BSGV, stencil, repeatable=repeatable, **parts)
    run = choose(TABLE, problem, backend).backend.run
    scale = q_BTHK.shape[-1] ** -0.5 if scale is None else scale
    return run(problem, q_BTHK, k_BSGK, v_BSGV, scale=scale, parts=parts)


def plan(q: Tensor, k: Tensor, v: Tensor, stencil: Stencil, *, repeatable: bool = False, **parts) -> AttentionCall:
    """The problem that these tensors pose (meta tensors do). `dispatch.choose` says who runs it, and why."""
    _check(q, k, v)
    _check_parts(q, k, parts)
    B, T, H, K = q.shape
    given = {name for name, value in parts.items() if value is not None}
    tensors = [q, k, v, *(x for x in parts.values() if isinstance(x, Tensor))]
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
        offset=parts.get("query_offset", 0),
        has_soft_cap="soft_cap" in given,
        has_sink_logits="sink_logits_H" in given,
        has_alibi="alibi_slopes_H" in given,
        has_segments="segments" in given,
        has_key_positions="key_positions_S" in given,
        has_bias="bias_HTS" in given,
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


def _check_parts(q: Tensor, k: Tensor, parts: dict) -> None:
    """Kernels index these by their shapes as they should be."""
    (B, T, H, _), S = q.shape, k.shape[1]
    for name, size in (("sink_logits_H", H), ("alibi_slopes_H", H), ("key_positions_S", S)):
        vector = parts.get(name)
        if vector is not None and vector.shape != (size,):
            raise ValueError(f"{name} must be ({size},), found {tuple(vector.shape)}")
    bias, segments = parts.get("bias_HTS"), parts.get("segments")
    if bias is not None and not _broadcasts(bias.shape, (B, H, T, S)):
        raise ValueError(f"bias_HTS must broadcast to {(B, H, T, S)}, found {tuple(bias.shape)}")
    if segments is not None:
        check_segments(segments[0], (B, T))
        check_segments(segments[1], (B, S), "key_segments_BS")
    if parts.get("soft_cap") == 0:
        raise ValueError("soft_cap must not be 0; None is no cap")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    fits = all(size in (1, whole) for size, whole in zip(reversed(shape), reversed(to), strict=False))
    return fits and len(shape) <= len(to)
