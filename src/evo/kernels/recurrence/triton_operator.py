"""The Triton recurrence as custom operators: traced by torch.compile, captured in CUDA graphs, differentiable.

`triton_walk.walk` is the kernel. `evo::recur_outer` is the member of the family with outer updates, whose gradients are
three more walks; gradients of decays per token are made of q·dq and k·dk (`triton_decay`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.members import Fold
from evo.kernels.operators import operator
from evo.kernels.recurrence.call import RecurrenceCall
from evo.kernels.recurrence.triton_decay import step_gradients
from evo.kernels.recurrence.triton_head_decay import head_decay_grad, rate_gradient
from evo.kernels.recurrence.triton_launch import Walk, decay_axes, launch_walk, segment_length
from evo.kernels.triton_support import widened


def _folds(q, k, v, log_decay, initial, scale, before) -> tuple[Fold, Fold]:
    """Members as batches, or as heads, which may have decays of their own."""
    batch, head = decay_axes(log_decay)
    return Fold((0, 0, 0, batch, 0), (0, 0)), Fold((2, 2, 2, head, 1), (2, 1))


@operator("recur_outer", _folds)
def recur_outer(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float, before: bool
) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) and final state (B, H, K, V) float32. With `before`, o_t reads the state before step t."""
    walked = launch_walk(q, k, v, log_decay, None, initial, Walk(False, before, before, True, scale))
    return walked.out, walked.final


@recur_outer.register_fake
def _(q, k, v, log_decay, initial, scale, before):
    B, _, H, K = q.shape
    return v.new_empty(v.shape), v.new_empty(B, H, K, v.shape[3], dtype=torch.float32)


def _save_outer(ctx, inputs, output):
    q, k, v, log_decay, initial, ctx.scale, ctx.before = inputs
    ctx.save_for_backward(q, k, v, log_decay, initial, output[1])
    ctx.set_materialize_grads(False)


def _folds_back(
    do, dfinal, q, k, v, log_decay, initial, final, scale, before, needs_decay
) -> tuple[Fold, ...]:  # fmt: skip
    """As `_folds`; the gradient of a decay per head would be summed over batches."""
    batch, head = decay_axes(log_decay)
    batches = Fold((0, 0, 0, 0, 0, batch, 0, 0), (0,) * 5)
    heads = Fold((2, 1, 2, 2, 2, head, 1, 1), (2, 2, 2, head or 0, 1))
    return (heads,) if needs_decay and batch is None else (batches, heads)


@operator("recur_outer_backward", _folds_back)
def recur_outer_backward(
    do: Tensor, dfinal: Tensor | None, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None,
    initial: Tensor | None, final: Tensor, scale: float, before: bool, needs_decay: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv, the gradient of the log decay (empty without `needs_decay`) and, float32, of the initial state.

    One operator for all walks: on short sequences its cost on the host is what they wait for.
    """
    flipped, dflipped = (None if s is None else s.transpose(2, 3) for s in (initial, dfinal))
    by_token = needs_decay and log_decay is not None and log_decay.ndim == 3
    with_q, with_k = (q, k) if by_token else (None, None)
    ahead, behind = Walk(False, before, before, False, scale, by_token), Walk(True, before, before, False, scale)
    ending = Walk(True, before, before, initial is not None, scale)
    of_q = launch_walk(do, v, k, log_decay, with_q, flipped, ahead)
    of_v = launch_walk(k, q, do, log_decay, None, dfinal, ending)
    of_k = launch_walk(v, do, q, log_decay, with_k, dflipped, behind, of_q.kept)
    ddecay = final.new_empty(0)
    if by_token:
        at_end = None if dfinal is None else (final * dfinal).sum((2, 3))
        ddecay = step_gradients(of_q.dots, of_k.dots, of_k.anchors, at_end, before, segment_length())
    elif needs_decay:
        sums, weighted = head_decay_grad.run(do, v, k, log_decay, None, q, flipped, before, before)
        ddecay = rate_gradient(weighted, sums * scale, dfinal, sums)
    return of_q.out, of_k.out, of_v.out, ddecay, of_v.final


@recur_outer_backward.register_fake
def _(do, dfinal, q, k, v, log_decay, initial, final, scale, before, needs_decay):
    B, T, H, _ = q.shape
    by_token = needs_decay and log_decay.ndim == 3
    ddecay = final.new_empty((B, T, H) if by_token else H if needs_decay else 0)
    dinitial = final.new_empty(final.shape if initial is not None else 0)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), ddecay, dinitial


def _backward_outer(ctx, do, dfinal):
    q, k, v, log_decay, initial, final = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    needs_decay = log_decay is not None and ctx.needs_input_grad[3]
    dq, dk, dv, ddecay, dinitial = recur_outer_backward(
        do, dfinal, q, k, v, log_decay, initial, final, ctx.scale, ctx.before, needs_decay
    )
    ddecay = ddecay.to(log_decay.dtype) if needs_decay else None
    return dq, dk, dv, ddecay, None if initial is None else dinitial.to(initial.dtype), None, None


recur_outer.register_autograd(_backward_outer, setup_context=_save_outer)


def run(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict):
    """The signature that all backends share. Heads are widened with zeros to powers of two, which changes no number."""
    K, V = k.shape[3], v.shape[3]
    q, k, v = (widened(x.to(q.dtype)) for x in (q, k, v))
    log_decay, initial, bonus = parts["log_decay"], widened(parts["initial_state_BHKV"], 2), widened(parts["bonus_HK"])
    if problem.update == "removal" or (problem.update, problem.decay) == ("delta", "channel"):
        from evo.kernels.recurrence.triton_removal_operator import run as run_removal

        beta, keep = parts["beta_BTH"], problem.needs_grad
        removal = None if beta is not None else [widened(x.to(q.dtype)) for x in parts["removal"]]
        decay = widened(log_decay) if problem.decay == "channel" else log_decay
        o, final = run_removal(q, k, v, beta, removal, decay, initial, scale, bonus is not None, keep)
    elif problem.decay == "channel":
        from evo.kernels.recurrence.triton_channel_operator import recur_channel

        o, final = recur_channel(q, k, v, widened(log_decay), bonus, initial, scale)[:2]
    elif problem.update == "delta":
        from evo.kernels.recurrence.triton_delta_operator import run as run_delta

        o, final = run_delta(q, k, v, parts["beta_BTH"], log_decay, initial, scale, problem.needs_grad)
    else:
        o, final = recur_outer(q, k, v, log_decay, initial, scale, bonus is not None)
    if bonus is not None and (problem.update == "removal" or problem.decay != "channel"):
        o = o + ((q * bonus.to(q.dtype) * k).sum(-1, keepdim=True) * scale) * v
    return o[..., :V], final[..., :K, :V]
