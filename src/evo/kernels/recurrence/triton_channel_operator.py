"""Outer updates with a decay per channel as a custom operator: `evo::recur_channel` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.recurrence import triton_channel, triton_channel_walk
from evo.kernels.recurrence.triton_launch import blocks_for, dense, precision
from evo.kernels.triton_support import aligned, padded


def _chunk(k: Tensor, v: Tensor) -> int:
    B, T, H, K = k.shape
    return blocks_for(padded(K), padded(v.shape[3]), B * H, T, v.dtype).C


@torch.library.custom_op("evo::recur_channel", mutates_args=())
def recur_channel(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor | None, initial: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o (B, T, H, V), final state (B, H, K, V) float32; running decays (B, T, H, K) and scores (B, H, chunks, C, C).

    The last two are for the backward pass and are not differentiable.
    """
    q, k, v, log_decay = aligned(q), aligned(k), aligned(v), aligned(log_decay)
    B, T, H, K = q.shape
    V, C = v.shape[3], _chunk(k, v)
    chunks = -(-T // C)
    o = torch.empty(B, T, H, V, dtype=v.dtype, device=v.device)
    final = torch.empty(B, H, K, V, dtype=torch.float32, device=v.device)
    upto = torch.empty(B, T, H, K, dtype=torch.float32, device=v.device)
    scores = torch.empty(B, H, chunks, C, C, dtype=v.dtype, device=v.device)
    bonus, initial = dense(bonus), dense(initial)
    if B * H == 0 or T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial), upto, scores
    triton_channel.scores[(B * H * chunks,)](
        q, k, log_decay, bonus, upto, scores, *q.stride()[:3], *k.stride()[:3], *log_decay.stride()[:3], H, T,
        bonus is not None, K, padded(K), C, C.bit_length() - 1, precision(v.dtype),
        num_warps=8 if padded(K) >= 128 else 4, num_stages=1,
    )  # fmt: skip
    _values(q, k, v, upto, scores, initial, o, final, scale, False, bonus is not None)
    return o, final, upto, scores


def _values(x, y, z, upto, scores, initial, out, final, scale: float, back: bool, before: bool) -> None:
    B, T, H, K = x.shape
    Z = z.shape[3]
    sizes = blocks_for(padded(K), padded(Z), B * H, T, z.dtype)
    triton_channel_walk.values[(B * H * -(-Z // sizes.ZB),)](
        x, y, z, upto, scores, initial, out, final, *x.stride()[:3], *y.stride()[:3], *z.stride()[:3],
        *out.stride()[:3], H, T, scale, back, before, initial is not None, K, Z, padded(K), sizes.ZB, sizes.C,
        precision(z.dtype), num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip


@recur_channel.register_fake
def _(q, k, v, log_decay, bonus, initial, scale):
    B, T, H, K = q.shape
    C = _chunk(k, v)
    final = v.new_empty(B, H, K, v.shape[3], dtype=torch.float32)
    upto = v.new_empty(B, T, H, K, dtype=torch.float32)
    return v.new_empty(v.shape), final, upto, v.new_empty(B, H, -(-T // C), C, C)


@torch.library.custom_op("evo::recur_channel_backward", mutates_args=())
def recur_channel_backward(
    do: Tensor, dfinal: Tensor | None, q: Tensor, k: Tensor, v: Tensor, upto: Tensor, scores: Tensor,
    bonus: Tensor | None, initial: Tensor | None, at_end: Tensor | None, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv, dlog_decay (B, T, H, K) float32, dbonus (H, K), dinitial (B, H, K, V)."""
    q, k, v, do = aligned(q), aligned(k), aligned(v), aligned(do)
    initial, dfinal, bonus, at_end = dense(initial), dense(dfinal), dense(bonus), dense(at_end)
    B, T, H, K = q.shape
    V, C = v.shape[3], _chunk(k, v)
    chunks = -(-T // C)
    empty = lambda *shape, dtype=q.dtype: torch.empty(shape, dtype=dtype, device=q.device)  # noqa: E731
    dq, dk, dq_inside, dk_inside = (empty(B, T, H, K) for _ in range(4))
    dv, ddecay = empty(B, T, H, V), empty(B, T, H, K, dtype=torch.float32)
    dinitial = empty(B, H, K, V, dtype=torch.float32)
    dbonus = empty(B, H, chunks, K, dtype=torch.float32)
    if B * H == 0 or T == 0:
        dinitial = dinitial.zero_() if dfinal is None else dinitial.copy_(dfinal)
        return dq, dk, dv, ddecay, dbonus.sum((0, 2)), dinitial
    before, exact = bonus is not None, precision(v.dtype)
    triton_channel.score_gradients[(B * H * chunks,)](
        q, k, v, do, upto, bonus, dq_inside, dk_inside, dbonus, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        *do.stride()[:3], *dq.stride()[:3], H, T, scale, before, K, V, padded(K), padded(V), C, C.bit_length() - 1,
        exact, num_warps=8 if padded(K) >= 64 else 4, num_stages=1,
    )  # fmt: skip
    _values(k, q, do, upto, scores, dfinal, dv, dinitial, scale, True, before)
    sizes = blocks_for(padded(V), padded(K), B * H, T, q.dtype)
    grid = (B * H * -(-K // sizes.ZB),)
    for x, y, z, add, start, out, back in (
        (do, v, k, dq_inside, initial, dq, False),
        (v, do, q, dk_inside, dfinal, dk, True),
    ):
        triton_channel_walk.channels[grid](
            x, y, z, upto, add, start, out, k, dq, bonus, at_end, ddecay, *x.stride()[:3], *y.stride()[:3],
            *z.stride()[:3], *k.stride()[:3], H, T, scale, back, before, start is not None, back, at_end is not None,
            V, K, padded(V), sizes.ZB, C, exact, num_warps=sizes.warps, num_stages=sizes.stages,
        )  # fmt: skip
    return dq, dk, dv, ddecay, dbonus.sum((0, 2)) if before else dbonus[0, :, 0], dinitial


@recur_channel_backward.register_fake
def _(do, dfinal, q, k, v, upto, scores, bonus, initial, at_end, scale):
    B, _, H, K = q.shape
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    dinitial = q.new_empty(B, H, K, v.shape[3], dtype=torch.float32)
    return dq, dk, dv, torch.empty_like(upto), q.new_empty(H, K, dtype=torch.float32), dinitial


def _save(ctx, inputs, output):
    q, k, v, log_decay, bonus, initial, ctx.scale = inputs
    _, final, upto, scores = output
    ctx.mark_non_differentiable(upto, scores)
    ctx.save_for_backward(q, k, v, bonus, initial, final, upto, scores)
    ctx.decay_dtype = log_decay.dtype
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dfinal, _upto, _scores):
    q, k, v, bonus, initial, final, upto, scores = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    at_end = None if dfinal is None else (final * dfinal).sum(3)
    dq, dk, dv, ddecay, dbonus, dinitial = recur_channel_backward(
        do, dfinal, q, k, v, upto, scores, bonus, initial, at_end, ctx.scale
    )
    dbonus = None if bonus is None else dbonus.to(bonus.dtype)
    dinitial = None if initial is None else dinitial.to(initial.dtype)
    return dq, dk, dv, ddecay.to(ctx.decay_dtype), dbonus, dinitial, None


recur_channel.register_autograd(_backward, setup_context=_save)
