"""The delta rule as a custom operator: `evo::recur_delta` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton import delta, delta_gradients
from evo.kernels.recurrence.triton.blocks import Blocks, blocks_for, decay_axes, decay_kind, precision
from evo.kernels.recurrence.triton.head_decay import head_decay_grad, rate_gradient
from evo.kernels.triton_support import aligned, dense, is_interpreting, next_pow2


def _sizes(k: Tensor, v: Tensor) -> Blocks:
    """Chunks of 64 tokens only for heads of 64 or more: of narrower tiles Triton 3.6 makes wrong products on Hopper."""
    B, T, H, K = k.shape
    K, V = next_pow2(K), next_pow2(v.shape[3])
    sizes = blocks_for(K, V, B * H, T, v.dtype)
    if is_interpreting() or v.dtype == torch.float32:
        return sizes
    tokens = min(sizes.C, 64 if min(K, V) >= 64 and K <= 128 else 32)
    return Blocks(sizes.ZB, tokens, 4 if K <= 128 else 8, 3 if K <= 128 else 2)


def _folds(q, k, v, beta, log_decay, initial, scale, keep) -> tuple[Fold, Fold]:
    """Members as batches, or as heads, which may have decays of their own."""
    batch, head = decay_axes(log_decay)
    return Fold((0, 0, 0, 0, batch, 0), (0,) * 7), Fold((2, 2, 2, 2, head, 1), (2, 1, 2, 1, 1, 1, 1))


@operator("recur_delta", _folds)
def recur_delta(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """o (B, T, H, V), final state (B, H, K, V) float32, and for the backward pass, not differentiable: with `keep` the
    errors (B, T, H, V) and the states before every chunk of C tokens (B, H, chunks, K, V); and what
    `delta.prepare` makes, inverses and scores (B, H, chunks, C, C) and gates (B, H, chunks, 2, C) float32.

    K and V are powers of two.
    """
    q, k, v, beta = aligned(q), aligned(k), aligned(v), beta.contiguous()
    B, T, H, K = q.shape
    V, sizes = v.shape[3], _sizes(k, v)
    chunks = -(-T // sizes.C)
    o = torch.empty(B, T, H, V, dtype=v.dtype, device=v.device)
    errors = torch.empty(o.shape if keep else 0, dtype=v.dtype, device=v.device)
    states = torch.empty((B, H, chunks, K, V) if keep else 0, dtype=v.dtype, device=v.device)
    final = torch.empty(B, H, K, V, dtype=torch.float32, device=v.device)
    made = _prepared(v, B, H, chunks, sizes.C)
    log_decay, initial, exact = dense(log_decay), dense(initial), precision(v.dtype)
    if B * H == 0 or T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial), errors, states, *made
    delta.prepare[(B * H * chunks,)](
        q, k, beta, log_decay, *made, *q.stride()[:3], *k.stride()[:3], H, T, scale, decay_kind(log_decay), K,
        next_pow2(K), sizes.C, sizes.C.bit_length() - 1, exact, num_warps=4, num_stages=1,
        maxnreg=128 if exact == "tf32" and K <= 128 else 255,
    )  # fmt: skip
    delta.forward[(B * H * -(-V // sizes.ZB),)](
        q, k, v, *made, initial, o, errors, states, final,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *o.stride()[:3], H, T, scale,
        initial is not None, keep, K, V, next_pow2(K), sizes.ZB, sizes.C, exact,
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return o, final, errors, states, *made


def _prepared(v: Tensor, B: int, H: int, chunks: int, C: int) -> list[Tensor]:
    inverses, scores = (v.new_empty(B, H, chunks, C, C) for _ in range(2))
    return [inverses, scores, v.new_empty(B, H, chunks, 2, C, dtype=torch.float32)]


@recur_delta.register_fake
def _(q, k, v, beta, log_decay, initial, scale, keep):
    B, T, H, K = q.shape
    C = _sizes(k, v).C
    final = v.new_empty(B, H, K, v.shape[3], dtype=torch.float32)
    chunks = -(-T // C)
    errors, states = (v.shape, (B, H, chunks, K, v.shape[3])) if keep else (0, 0)
    return v.new_empty(v.shape), final, v.new_empty(errors), v.new_empty(states), *_prepared(v, B, H, chunks, C)


@operator("recur_delta_errors_back", folds(Fold((0,) * 7, (0,) * 3)))
def errors_back(
    do: Tensor, q: Tensor, k: Tensor, inverses: Tensor, scores: Tensor, gates: Tensor, dfinal: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dv (B, T, H, V) and the gradients of the states after the chunks, (B, H, chunks, K, V), and of the initial state,
    (B, H, K, V) float32."""
    q, k, do = aligned(q), aligned(k), aligned(do)
    B, T, H, K = q.shape
    V, sizes = do.shape[3], _sizes(k, do)
    dv = torch.empty(do.shape, dtype=do.dtype, device=do.device)
    dinitial = torch.empty(B, H, K, V, dtype=torch.float32, device=do.device)
    dstates = torch.empty(B, H, inverses.shape[2], K, V, dtype=do.dtype, device=do.device)
    if dv.numel() == 0:
        return dv, dstates, dinitial.zero_() if dfinal is None else dinitial.copy_(dfinal)
    dfinal = dense(dfinal)
    delta.errors_back[(B * H * -(-V // sizes.ZB),)](
        q, k, do, inverses, scores, gates, dfinal, dv, dstates, dinitial,
        *q.stride()[:3], *k.stride()[:3], *do.stride()[:3], *dv.stride()[:3], H, T, scale,
        dfinal is not None, K, V, next_pow2(K), sizes.ZB, sizes.C, precision(do.dtype),
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return dv, dstates, dinitial


@errors_back.register_fake
def _(do, q, k, inverses, scores, gates, dfinal, scale):
    B, _, H, K = q.shape
    V = do.shape[3]
    dstates = do.new_empty(B, H, inverses.shape[2], K, V)
    return do.new_empty(do.shape), dstates, do.new_empty(B, H, K, V, dtype=torch.float32)


def _folds_back(do, q, k, dv, errors, beta, log_decay, states, final, dstates, scale) -> tuple[Fold, Fold]:
    """As `_folds`."""
    batch, head = decay_axes(log_decay)
    heads = Fold((2, 2, 2, 2, 2, 2, head, 1, 1, 1), (2,) * 4)
    return Fold((0, 0, 0, 0, 0, 0, batch, 0, 0, 0), (0,) * 4), heads


@operator("recur_delta_keys_back", _folds_back)
def keys_back(
    do: Tensor, q: Tensor, k: Tensor, dv: Tensor, errors: Tensor, beta: Tensor, log_decay: Tensor | None,
    states: Tensor, final: Tensor | None, dstates: Tensor, scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk (B, T, H, K), dbeta (B, T, H) float32 and, for decays per token (else empty), ddecay (B, T, H) float32.

    `final` is the final state where it has a gradient.
    """
    do, q, k, dv, errors, beta = (x.contiguous() for x in (do, q, k, dv, errors, beta))
    B, T, H, K = q.shape
    V, C = do.shape[3], _sizes(k, do).C
    widest = 32 if do.dtype == torch.float32 else 64
    KB, VB = min(K, widest), min(V, widest)
    dq, dk = (torch.empty(B, T, H, K, dtype=q.dtype, device=q.device) for _ in range(2))
    dbeta, ddecay = _of_steps(q, log_decay)
    if q.numel() == 0:
        return dq, dk, dbeta.zero_(), ddecay.zero_()
    log_decay = dense(log_decay)
    delta_gradients.keys_back[(B * H * -(-T // C),)](
        q, k, do, dv, errors, beta, log_decay, states, final, dstates, dq, dk, dbeta, ddecay, H, T, scale,
        decay_kind(log_decay), final is not None, K, V, KB, VB, C, precision(do.dtype), num_warps=4, num_stages=2,
    )  # fmt: skip
    return dq, dk, dbeta, ddecay


def _of_steps(q: Tensor, log_decay: Tensor | None) -> tuple[Tensor, Tensor]:
    dbeta = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    return dbeta, torch.empty_like(dbeta) if decay_kind(log_decay) == 2 else dbeta.new_empty(0)


@keys_back.register_fake
def _(do, q, k, dv, errors, beta, log_decay, states, final, dstates, scale):
    return q.new_empty(q.shape), k.new_empty(k.shape), *_of_steps(q, log_decay)


def _save(ctx, inputs, output):
    q, k, v, beta, log_decay, initial, ctx.scale, _ = inputs
    _, final, *kept = output
    ctx.mark_non_differentiable(*kept)
    ctx.save_for_backward(q, k, v, beta, log_decay, initial, final, *kept)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dfinal, *_):
    q, k, v, beta, log_decay, initial, final, errors, states, *prepared = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    scale = ctx.scale
    dv, dstates, dinitial = errors_back(do, q, k, *prepared, dfinal, scale)
    ended = None if dfinal is None else final
    dq, dk, dbeta, ddecay = keys_back(do, q, k, dv, errors, beta, log_decay, states, ended, dstates, scale)
    if log_decay is None or not ctx.needs_input_grad[4]:
        ddecay = None
    elif log_decay.ndim == 3:
        ddecay = ddecay.to(log_decay.dtype)
    else:
        flipped = None if initial is None else initial.transpose(2, 3)
        sums, weighted = head_decay_grad(do, errors, k, log_decay, beta, q, flipped, False, False)
        reads, _ = head_decay_grad(dv, errors, k, log_decay, beta, k, flipped, True, False)
        ddecay = rate_gradient(weighted, sums * scale - reads, dfinal, log_decay)
    dinitial = None if initial is None else dinitial.to(initial.dtype)
    return dq, dk, dv, dbeta.to(beta.dtype), ddecay, dinitial, None, None


recur_delta.register_autograd(_backward, setup_context=_save)


def run(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float,
    keep: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o and the final state."""
    return recur_delta(q, k, v, beta, log_decay, initial, scale, keep)[:2]
