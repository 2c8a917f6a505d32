"""Outer updates with a decay per channel as a custom operator: `evo::recur_channel` and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.members import Fold, folds
from evo.kernels.operators import operator
from evo.kernels.recurrence.triton.blocks import blocks_for, precision, scan_blocks
from evo.kernels.recurrence.triton.channel import operands
from evo.kernels.recurrence.triton.channel_gradients import gradients
from evo.kernels.recurrence.triton.channel_scan import channel_scan
from evo.kernels.triton_support import aligned, dense, next_pow2

# Narrower tiles of channels took Triton 3.6 to illegal addresses on Hopper.
CHANNELS = 64
# All there are. Left alone, ptxas 12.8 takes the float32 gradients to 32 registers and 10 kB of spills.
REGISTERS = 255


def _chunk(k: Tensor, v: Tensor) -> int:
    B, T, H, K = k.shape
    return blocks_for(next_pow2(K), next_pow2(v.shape[3]), B * H, T, v.dtype).C


BATCHES = Fold((0, 0, 0, 0, None, 0), (0,) * 7)
HEADS = Fold((2, 2, 2, 2, 0, 1), (2, 1, 2, 2, 1, 1, 1))


@operator("recur_channel", folds(BATCHES, HEADS))
def recur_channel(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor | None, initial: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """o (B, T, H, V), final state (B, H, K, V) float32; then what `channel.operands` makes of the chunks.

    The last five are for the backward pass and are not differentiable.
    """
    q, k, v, log_decay = aligned(q), aligned(k), aligned(v), aligned(log_decay)
    bonus, initial = dense(bonus), dense(initial)
    o, final, reader, writer, left, scores, worst = _outcome(q, k, v)
    B, T, H, K = q.shape
    if B * H == 0 or T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial), reader, writer, left, scores, worst
    chunks, C = scores.shape[2:4]
    operands[(B * H * chunks,)](
        q, k, log_decay, bonus, reader, writer, left, scores, worst, *q.stride()[:3], *k.stride()[:3],
        *log_decay.stride()[:3], H, T, scale, bonus is not None, K, CHANNELS, C, C.bit_length() - 1,
        precision(v.dtype), num_warps=4, num_stages=1, maxnreg=REGISTERS,
    )  # fmt: skip
    _scan(reader, writer, v, left, scores, initial, out=o, final=final)
    return o, final, reader, writer, left, scores, worst


def _outcome(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Empty results of `recur_channel`."""
    (B, T, H, K), C = k.shape, _chunk(k, v)
    chunks = -(-T // C)
    o, reader, writer, scores = (_empty(v, *shape) for shape in (v.shape, q.shape, k.shape, (B, H, chunks, C, C)))
    shapes = ((K, v.shape[3]), (chunks, K), (chunks,))
    final, left, worst = (_empty(v, B, H, *shape, dtype=torch.float32) for shape in shapes)
    return o, final, reader, writer, left, scores, worst


def _empty(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device)


@recur_channel.register_fake
def _(q, k, v, log_decay, bonus, initial, scale):
    return _outcome(q, k, v)


def _scan(x, y, z, left, scores, initial, out=None, states=None, final=None, back=False) -> None:
    """Launch `channel_scan.channel_scan`; what is None is not made."""
    B, T, H, K = y.shape
    Z = z.shape[3]
    sizes = scan_blocks(next_pow2(K), next_pow2(Z), B * H, T, z.dtype)
    stages = 3 if states is not None and sizes.stages == 2 else sizes.stages
    channel_scan[(B * H * -(-Z // sizes.ZB),)](
        x, y, z, left, scores, initial, out, states, final, *z.stride()[:3], H, T, back, out is not None,
        states is not None, initial is not None, final is not None, K, Z, next_pow2(K), sizes.ZB, sizes.C,
        precision(z.dtype), num_warps=sizes.warps, num_stages=stages,
    )  # fmt: skip


def _folds_back(do, dfinal, q, k, v, log_decay, bonus, *others) -> tuple[Fold, ...]:
    """Members as batches, or as heads with a bonus of their own, whose gradient would be summed over batches."""
    batches = Fold((*(0,) * 6, None, *(0,) * 6), (0,) * 6)
    heads = Fold((2, 1, 2, 2, 2, 2, 0, 1, 2, 2, 1, 1, 1), (2, 2, 2, 2, 0, 1))
    return (batches,) if bonus is None else (heads,)


@operator("recur_channel_backward", _folds_back)
def recur_channel_backward(
    do: Tensor, dfinal: Tensor | None, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, bonus: Tensor | None,
    initial: Tensor | None, reader: Tensor, writer: Tensor, left: Tensor, scores: Tensor, worst: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv, dlog_decay like their inputs; float32: dbonus (H, K), or nothing, dinitial (B, H, K, V)."""
    q, k, v, do, log_decay = aligned(q), aligned(k), aligned(v), aligned(do), aligned(log_decay)
    initial, dfinal, bonus = dense(initial), dense(dfinal), dense(bonus)
    B, T, H, K = q.shape
    V, (chunks, C) = v.shape[3], scores.shape[2:4]
    dq, dk, dv, ddecay = (_empty(x, *x.shape) for x in (q, k, v, log_decay))
    dinitial = _empty(q, B, H, K, V, dtype=torch.float32)
    dbonus = _empty(q, *(0,) if bonus is None else (B, H, chunks, K), dtype=torch.float32)
    if B * H == 0 or T == 0:
        dinitial = dinitial.zero_() if dfinal is None else dinitial.copy_(dfinal)
        return dq, dk, dv, ddecay, dbonus if bonus is None else dbonus.sum((0, 2)), dinitial
    states, dstates = (_empty(v, B, H, chunks, K, V) for _ in range(2))
    _scan(None, writer, v, left, None, initial, states=states)
    _scan(writer, reader, do, left, scores, dfinal, out=dv, states=dstates, final=dinitial, back=True)
    gradients[(B * H * chunks * -(-K // CHANNELS),)](
        q, k, v, do, log_decay, bonus, worst, states, dstates, dq, dk, ddecay, dbonus, *q.stride()[:3],
        *k.stride()[:3], *v.stride()[:3], *do.stride()[:3], *log_decay.stride()[:3], H, T, scale, bonus is not None,
        K, V, CHANNELS, next_pow2(V), C, C.bit_length() - 1, precision(v.dtype),
        num_warps=8 if v.dtype == torch.float32 else 4, num_stages=1, maxnreg=REGISTERS,
    )  # fmt: skip
    return dq, dk, dv, ddecay, dbonus if bonus is None else dbonus.sum((0, 2)), dinitial


@recur_channel_backward.register_fake
def _(do, dfinal, q, k, v, log_decay, bonus, initial, reader, writer, left, scores, worst, scale):
    B, _, H, K = q.shape
    dq, dk, dv, ddecay = (_empty(x, *x.shape) for x in (q, k, v, log_decay))
    shapes = ((0,) if bonus is None else (H, K), (B, H, K, v.shape[3]))
    dbonus, dinitial = (_empty(q, *shape, dtype=torch.float32) for shape in shapes)
    return dq, dk, dv, ddecay, dbonus, dinitial


def _save(ctx, inputs, output):
    q, k, v, log_decay, bonus, initial, ctx.scale = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(q, k, v, log_decay, bonus, initial, *output[2:])
    ctx.set_materialize_grads(False)


def _backward(ctx, do, dfinal, *_):
    q, k, v, log_decay, bonus, initial, *made = ctx.saved_tensors
    do = torch.zeros_like(v) if do is None else do.to(v.dtype)
    dq, dk, dv, ddecay, dbonus, dinitial = recur_channel_backward(
        do, dfinal, q, k, v, log_decay, bonus, initial, *made, ctx.scale
    )
    dbonus = None if bonus is None else dbonus.to(bonus.dtype)
    dinitial = None if initial is None else dinitial.to(initial.dtype)
    return dq, dk, dv, ddecay, dbonus, dinitial, None


recur_channel.register_autograd(_backward, setup_context=_save)
