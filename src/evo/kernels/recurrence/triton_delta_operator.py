"""The delta rule as a custom operator: `evo::recur_delta` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.recurrence import triton_delta
from evo.kernels.recurrence.triton_launch import Blocks, blocks_for, decay_kind, dense, precision
from evo.kernels.recurrence.triton_operator import aged_dots, rate_gradient, step_gradients, walk
from evo.kernels.triton_support import aligned, is_interpreting, padded

TINY = 1e-12


def _sizes(k: Tensor, v: Tensor) -> Blocks:
    """Chunks of 64 tokens only for heads of 64 or more: of narrower tiles Triton 3.6 makes wrong products on Hopper."""
    B, T, H, K = k.shape
    K, V = padded(K), padded(v.shape[3])
    sizes = blocks_for(K, V, B * H, T, v.dtype)
    if is_interpreting() or v.dtype == torch.float32:
        return sizes
    tokens = min(sizes.C, 64 if min(K, V) >= 64 and K <= 128 else 32)
    return Blocks(sizes.ZB, tokens, 4 if K <= 128 else 8, 2)


@torch.library.custom_op("evo::recur_delta", mutates_args=())
def recur_delta(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """o (B, T, H, V), final state (B, H, K, V) float32, errors (B, T, H, V), and of every chunk of C tokens what
    `triton_delta.prepare` makes: inverses and scores (B, H, chunks, C, C), readers (B, H, chunks, C, K).

    The last four are for the backward pass and are not differentiable. beta is never zero here.
    """
    q, k, v, beta = aligned(q), aligned(k), aligned(v), beta.contiguous()
    B, T, H, K = q.shape
    V, sizes = v.shape[3], _sizes(k, v)
    chunks = -(-T // sizes.C)
    o, errors = (torch.empty(B, T, H, V, dtype=v.dtype, device=v.device) for _ in range(2))
    final = torch.empty(B, H, K, V, dtype=torch.float32, device=v.device)
    widths = sizes.C, sizes.C, K
    prepared = [torch.empty(B, H, chunks, sizes.C, width, dtype=v.dtype, device=v.device) for width in widths]
    log_decay, initial, exact = dense(log_decay), dense(initial), precision(v.dtype)
    if B * H == 0 or T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial), errors, *prepared
    triton_delta.prepare[(B * H * chunks,)](
        q, k, beta, log_decay, *prepared, *q.stride()[:3], *k.stride()[:3], H, T, decay_kind(log_decay), K, padded(K),
        sizes.C, sizes.C.bit_length() - 1, exact, num_warps=4, num_stages=1, maxnreg=168,
    )  # fmt: skip
    triton_delta.forward[(B * H * -(-V // sizes.ZB),)](
        q, k, v, beta, log_decay, *prepared, initial, o, errors, final,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *o.stride()[:3], H, T, scale,
        decay_kind(log_decay), initial is not None, K, V, padded(K), sizes.ZB, sizes.C, exact,
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return o, final, errors, *prepared


@recur_delta.register_fake
def _(q, k, v, beta, log_decay, initial, scale):
    B, T, H, K = q.shape
    C = _sizes(k, v).C
    final = v.new_empty(B, H, K, v.shape[3], dtype=torch.float32)
    chunks = -(-T // C)
    prepared = (v.new_empty(B, H, chunks, C, width) for width in (C, C, K))
    return v.new_empty(v.shape), final, v.new_empty(v.shape), *prepared


@torch.library.custom_op("evo::recur_delta_errors_back", mutates_args=())
def errors_back(
    do: Tensor, q: Tensor, k: Tensor, beta: Tensor, log_decay: Tensor | None, inverses: Tensor, scores: Tensor,
    readers: Tensor, errors: Tensor, dfinal: Tensor | None, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dv (B, T, H, V), dv · error (B, H, T) and the gradient of the initial state (B, H, K, V)."""
    q, k, do, beta, errors = aligned(q), aligned(k), aligned(do), beta.contiguous(), errors.contiguous()
    B, T, H, K = q.shape
    V, sizes = do.shape[3], _sizes(k, do)
    dv = torch.empty(do.shape, dtype=do.dtype, device=do.device)
    dots = torch.empty(-(-V // sizes.ZB), B, H, T, dtype=torch.float32, device=do.device)
    dinitial = torch.empty(B, H, K, V, dtype=torch.float32, device=do.device)
    if dv.numel() == 0:
        return dv, dots.sum(0), dinitial.zero_() if dfinal is None else dinitial.copy_(dfinal)
    log_decay, dfinal = dense(log_decay), dense(dfinal)
    triton_delta.errors_back[(B * H * -(-V // sizes.ZB),)](
        q, k, do, beta, log_decay, inverses, scores, readers, errors, dfinal, dv, dots, dinitial,
        *q.stride()[:3], *k.stride()[:3], *do.stride()[:3], *dv.stride()[:3], H, T, B * H, scale,
        decay_kind(log_decay), dfinal is not None, K, V, padded(K), sizes.ZB, sizes.C, precision(do.dtype),
        num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return dv, dots.sum(0), dinitial


@errors_back.register_fake
def _(do, q, k, beta, log_decay, inverses, scores, readers, errors, dfinal, scale):
    B, T, H, K = q.shape
    dots = do.new_empty(B, H, T, dtype=torch.float32)
    return do.new_empty(do.shape), dots, do.new_empty(B, H, K, do.shape[3], dtype=torch.float32)


def _save(ctx, inputs, output):
    q, k, v, beta, log_decay, initial, ctx.scale = inputs
    _, final, errors, *prepared = output
    ctx.mark_non_differentiable(errors, *prepared)
    ctx.save_for_backward(q, k, v, beta, log_decay, initial, final, errors, *prepared)
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dfinal, *_):
    """With W = beta E for values, o, and what the keys read, p, are walks; so are their gradients."""
    q, k, v, beta, log_decay, initial, final, errors, *prepared = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    scale = ctx.scale
    dv, dots_BHT, dinitial = errors_back(do, q, k, beta, log_decay, *prepared, errors, dfinal, scale)
    flipped, dflipped = (None if s is None else s.transpose(2, 3) for s in (initial, dfinal))
    needs_decay = log_decay is not None and log_decay.ndim == 3 and ctx.needs_input_grad[4]
    with_q, with_k = (q, k) if needs_decay else (None, None)
    dq, dot_q, _ = walk(do, errors, k, log_decay, None, beta, None, with_q, flipped, False, False, False, False, scale)
    dk, dot_read, _ = walk(dv, errors, k, log_decay, None, beta, None, with_k, flipped, False, True, False, False, -1.0)
    dk, _, _ = walk(errors, do, q, log_decay, beta, None, dk, None, dflipped, True, False, False, False, scale)
    dk, dot_k, _ = walk(errors, dv, k, log_decay, beta, None, dk, with_k, None, True, True, False, False, -1.0)
    ddecay = None
    if needs_decay:
        at_end = None if dfinal is None else (final * dfinal).sum((2, 3))
        ddecay = step_gradients(dot_q + 2.0 * dot_read, dot_k, at_end, False).to(log_decay.dtype)
    elif log_decay is not None and ctx.needs_input_grad[4]:
        sums, aged = aged_dots(do, errors, k, log_decay, beta, q, flipped, False, False)
        reads, _ = aged_dots(dv, errors, k, log_decay, beta, k, flipped, True, False)
        ddecay = rate_gradient(aged, sums * scale - reads, dfinal, log_decay)
    dbeta = (dots_BHT.transpose(1, 2) / beta.float()).to(beta.dtype)
    return dq, dk, dv, dbeta, ddecay, None if initial is None else dinitial.to(initial.dtype), None


recur_delta.register_autograd(_backward, setup_context=_save)


def run(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float):
    """o and the final state. A beta of exactly zero becomes 1e-12, so that its gradient can be read from beta E."""
    beta = beta.float()
    beta = torch.where(beta.abs() < TINY, beta + TINY, beta)
    return recur_delta(q, k, v, beta, log_decay, initial, scale)[:2]
