"""Packed documents for backends that know of none: a decay so strong that it leaves nothing of the document before."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from evo.kernels.documents import document_starts
from evo.kernels.recurrence.call import RecurrenceCall, RecurrenceExtras

LOG_FORGOTTEN = -48 * math.log(2)
"""What a document's first token leaves of the state before it: 2^-48, which float32 does not see of a state 2^24 times
the document's own. No less, because kernels sum log decays in float32, chunk by chunk: the more that documents of a few
tokens subtract there, the fewer digits are left for the other decays."""

Run = Callable[..., tuple[Tensor, Tensor]]


def segment_aware(run: Run) -> Run:
    """A backend's `run` that also takes `segments_BT` among its extras, as `reference.recurrence` defines it."""

    @wraps(run)
    def run_segments(call: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, extras: RecurrenceExtras, scale: float):
        segments_BT, extras = extras.segments_BT, extras._replace(segments_BT=None)
        if segments_BT is None:
            return run(call, q, k, v, extras, scale)
        starts_BT11 = document_starts(segments_BT)[..., None, None]
        extras = extras._replace(log_decay=reset_decay(extras.log_decay, starts_BT11, k))
        if extras.dplr is not None:  # a reads the state before its decay
            a, b = extras.dplr
            extras = extras._replace(dplr=(a.masked_fill(starts_BT11, 0.0), b))
        bonus = extras.bonus_HK
        if bonus is None:
            return run(call, q, k, v, extras, scale)
        o, final = run(call, q.masked_fill(starts_BT11, 0.0), k, v, extras, scale)  # and so does q
        own = (q * bonus * k).sum(-1, keepdim=True) * scale * v
        return torch.where(starts_BT11, own.to(o.dtype), o), final

    return run_segments


def reset_decay(log_decay: Tensor | None, starts_BT11: Tensor, like_BTHK: Tensor) -> Tensor:
    """The decay with LOG_FORGOTTEN at every start: (B, T, H), or (B, T, H, K) where it is per channel."""
    if log_decay is None:
        log_decay = like_BTHK.new_zeros((), dtype=torch.promote_types(like_BTHK.dtype, torch.float32))
    starts = starts_BT11 if log_decay.ndim == 4 else starts_BT11[..., 0].expand(like_BTHK.shape[:3])
    return _StopGradAcrossSegments.apply(torch.where(starts, LOG_FORGOTTEN, log_decay), starts_BT11[..., 0, 0])


class _StopGradAcrossSegments(torch.autograd.Function):
    """Decays (B, T, ...) as they are; their gradients without what later documents put in.

    Backends sum a decay's gradient from the sequence's end. Where a document starts that sum is zero, but for rounding,
    which every step before would take over and sum again: in half precision more than its own gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(log_decay: Tensor, starts_BT: Tensor) -> Tensor:
        return log_decay.view_as(log_decay)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(next_start(inputs[1]))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (gradient,), (next_BT,) = gradients, ctx.saved_tensors
        last = torch.zeros_like(gradient[:, :1])
        index = next_BT.reshape(*next_BT.shape, *[1] * (gradient.ndim - 2)).expand(gradient.shape)
        return gradient - torch.cat([gradient, last], dim=1).gather(1, index), None


def next_start(starts_BT: Tensor) -> Tensor:
    """Index (B, T) of the first start after each token, T where none comes."""
    T = starts_BT.shape[1]
    places = torch.where(starts_BT, torch.arange(T, device=starts_BT.device), T)
    later = torch.nn.functional.pad(places, (0, 1), value=T)[:, 1:]
    return later.flip(1).cummin(1).values.flip(1)
