"""The member of the family with outer updates as a custom operator: `evo::recur_outer` and its gradients.

The kernel is `chunk_scan`, and its gradients are three more scans; gradients of decays per token are made of q·dq and
k·dk (`token_decay`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evo.kernels.members import Fold
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton import chunk_scan
from evo.kernels.recurrence.triton.blocks import decay_axes, decay_kind, headwise, precision, scan_blocks
from evo.kernels.recurrence.triton.head_decay import head_decay_grad, rate_gradient
from evo.kernels.recurrence.triton.token_decay import step_gradients
from evo.kernels.triton_support import aligned, dense, is_interpreting, next_pow2


@dataclass(frozen=True)
class ScanConfig:
    """What is compiled into a scan. `before`: a query's exponent leaves out its own step. `keep`: scanning forward, the
    states before all segments but the first are kept."""

    back: bool = False
    strict: bool = False
    before: bool = False
    final: bool = False
    scale: float = 1.0
    keep: bool = False


@dataclass(frozen=True)
class ScanOutput:
    """out (B, T, H, Z) in z's dtype; float32, and empty where not asked for: dots (Z blocks, B, H, T), the final state
    (B, H, A, Z), the kept states (B, H, segments, A, Z) and anchors (Z blocks, B, H, segments)."""

    out: Tensor
    dots: Tensor
    final: Tensor
    kept: Tensor
    anchors: Tensor


def segment_length() -> int:
    """Tokens of a segment: over so many, rounding may add up in the running sums that decay gradients are."""
    return 64 if is_interpreting() else 512


def launch_chunk_scan(
    x: Tensor, y: Tensor, z: Tensor, log_decay: Tensor | None, dot_with: Tensor | None, initial: Tensor | None,
    how: ScanConfig, kept: Tensor | None = None,
) -> ScanOutput:  # fmt: skip
    """One scan. Back, with the states that a scan forward `kept`, it makes the anchors."""
    x, y, z = aligned(x), aligned(y), aligned(z)
    dot_with = None if dot_with is None else aligned(dot_with)
    B, T, H, A = x.shape
    Z = z.shape[3]
    sizes = scan_blocks(next_pow2(A), next_pow2(Z), B * H, T, z.dtype)
    pieces, segments = -(-Z // sizes.ZB), -(-T // segment_length())
    room = lambda asked, *shape: torch.empty(shape if asked else 0, dtype=torch.float32, device=z.device)  # noqa: E731
    anchored = kept is not None and kept.numel() > 0
    scanned = ScanOutput(
        torch.empty(B, T, H, Z, dtype=z.dtype, device=z.device),
        room(dot_with is not None, pieces, B, H, T),
        room(how.final, B, H, A, Z),
        room(how.keep and segments > 1, B, H, segments, A, Z),
        room(anchored, pieces, B, H, segments),
    )
    if B * H == 0 or T == 0:
        if how.final:
            scanned.final.zero_() if initial is None else scanned.final.copy_(initial)
        return scanned
    with_strides = (0, 0, 0) if dot_with is None else dot_with.stride()[:3]
    initial = None if initial is None else headwise(initial)
    state_strides = (0, 0, 0) if initial is None else initial.stride()[1:]
    every = segment_length() // sizes.C if anchored or scanned.kept.numel() else 0
    chunk_scan.chunk_scan[(B * H * pieces,)](
        x, y, z, dense(log_decay), dot_with, initial, kept if anchored else scanned.kept,
        scanned.out, scanned.dots, scanned.final, scanned.anchors,
        *x.stride()[:3], *y.stride()[:3], *z.stride()[:3], *with_strides, *scanned.out.stride()[:3],
        *state_strides, H, T, B * H, how.scale, decay_kind(log_decay), how.back, how.strict, how.before,
        dot_with is not None, initial is not None, how.final, every, A, Z, next_pow2(A), sizes.ZB, sizes.C,
        precision(z.dtype), num_warps=sizes.warps, num_stages=sizes.stages,
    )  # fmt: skip
    return scanned


def _folds(q, k, v, log_decay, initial, scale, before) -> tuple[Fold, Fold]:
    """Members as batches, or as heads, which may have decays of their own."""
    batch, head = decay_axes(log_decay)
    return Fold((0, 0, 0, batch, 0), (0, 0)), Fold((2, 2, 2, head, 1), (2, 1))


@operator("recur_outer", _folds)
def recur_outer(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, initial: Tensor | None, scale: float, before: bool
) -> tuple[Tensor, Tensor]:
    """o (B, T, H, V) and final state (B, H, K, V) float32. With `before`, o_t reads the state before step t."""
    scanned = launch_chunk_scan(q, k, v, log_decay, None, initial, ScanConfig(False, before, before, True, scale))
    return scanned.out, scanned.final


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

    One operator for all scans: on short sequences its cost on the host is what they wait for.
    """
    flipped, dflipped = (None if s is None else s.transpose(2, 3) for s in (initial, dfinal))
    by_token = needs_decay and log_decay is not None and log_decay.ndim == 3
    with_q, with_k = (q, k) if by_token else (None, None)
    ahead, behind = (
        ScanConfig(False, before, before, False, scale, by_token),
        ScanConfig(True, before, before, False, scale),
    )
    ending = ScanConfig(True, before, before, initial is not None, scale)
    of_q = launch_chunk_scan(do, v, k, log_decay, with_q, flipped, ahead)
    of_v = launch_chunk_scan(k, q, do, log_decay, None, dfinal, ending)
    of_k = launch_chunk_scan(v, do, q, log_decay, with_k, dflipped, behind, of_q.kept)
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
