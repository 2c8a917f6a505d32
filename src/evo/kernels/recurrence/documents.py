"""Packed documents for backends that know of none: a decay so strong that it leaves nothing of the document before."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from evo.kernels.documents import document_starts
from evo.kernels.recurrence.problem import RecurrenceProblem

LOG_FORGOTTEN = -48 * math.log(2)
"""What a document's first token leaves of the state before it: 2^-48, which float32 does not see of a state 2^24 times
the document's own. No less, because kernels sum log decays in float32, chunk by chunk: the more that documents of a few
tokens subtract there, the fewer digits are left for the other decays."""

Run = Callable[..., tuple[Tensor, Tensor]]


def apart(run: Run) -> Run:
    """A backend's `run` that also takes `segments_BT` among its parts, as `reference.recurrence` defines it."""

    @wraps(run)
    def run_apart(problem: RecurrenceProblem, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict):
        parts = dict(parts)
        segments_BT = parts.pop("segments_BT")
        if segments_BT is None:
            return run(problem, q, k, v, scale=scale, parts=parts)
        starts_BT11 = document_starts(segments_BT)[..., None, None]
        parts["log_decay"] = forgetting(parts["log_decay"], starts_BT11, k)
        if parts["removal"] is not None:  # a reads the state before its decay
            a, b = parts["removal"]
            parts["removal"] = a.masked_fill(starts_BT11, 0.0), b
        bonus = parts["bonus_HK"]
        if bonus is None:
            return run(problem, q, k, v, scale=scale, parts=parts)
        o, final = run(problem, q.masked_fill(starts_BT11, 0.0), k, v, scale=scale, parts=parts)  # and so does q
        own = (q * bonus * k).sum(-1, keepdim=True) * scale * v
        return torch.where(starts_BT11, own.to(o.dtype), o), final

    return run_apart


def forgetting(log_decay: Tensor | None, starts_BT11: Tensor, like_BTHK: Tensor) -> Tensor:
    """The decay with LOG_FORGOTTEN at every start: (B, T, H), or (B, T, H, K) where it is per channel."""
    if log_decay is None:
        log_decay = like_BTHK.new_zeros((), dtype=torch.promote_types(like_BTHK.dtype, torch.float32))
    starts = starts_BT11 if log_decay.ndim == 4 else starts_BT11[..., 0].expand(like_BTHK.shape[:3])
    return torch.where(starts, LOG_FORGOTTEN, log_decay)
