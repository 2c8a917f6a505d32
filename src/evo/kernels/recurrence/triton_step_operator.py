"""A few tokens of any member of the family as one custom operator, `evo::recur_step`; it has no gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.members import Fold
from evo.kernels.operators import operator
from evo.kernels.recurrence import triton_step
from evo.kernels.recurrence.call import DECAYS, UPDATES, RecurrenceCall
from evo.kernels.recurrence.triton_launch import decay_axes
from evo.kernels.triton_support import dense, padded, rowwise

PROGRAMS = 264  # two on each multiprocessor of an H100


def _folds(q, k, v, log_decay, *others) -> tuple[Fold, Fold]:
    """Members as batches, or as heads, which may have decays and bonuses of their own."""
    batch, head = decay_axes(log_decay)
    return Fold((0, 0, 0, batch, 0, 0, 0, None, 0), (0, 0)), Fold((2, 2, 2, head, 2, 2, 2, 0, 1), (2, 1))


@operator("recur_step", _folds)
def recur_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, beta: Tensor | None, a: Tensor | None, b: Tensor | None,
    bonus: Tensor | None, initial: Tensor | None, decay: int, update: int, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o (B, T, H, V) in q's dtype and the final state (B, H, K, V), float32.

    `decay` and `update` are positions in DECAYS and UPDATES.
    """
    q, k, v = rowwise(q), rowwise(k), rowwise(v)
    B, T, H, K = q.shape
    V = v.shape[3]
    o = torch.empty(B, T, H, V, dtype=q.dtype, device=q.device)
    final = torch.empty(B, H, K, V, dtype=torch.float32, device=q.device)
    if T == 0:
        return o, final.zero_() if initial is None else final.copy_(initial)
    columns = _columns(padded(V), B * H)
    if final.numel():
        triton_step.step[(B * H * -(-V // columns),)](
            q, k, v, *(dense(x) for x in (log_decay, beta, a, b, bonus, initial)), o, final,
            *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], H, T, scale,
            decay, update, bonus is not None, initial is not None, K, V, padded(K), columns, num_warps=4,
        )  # fmt: skip
    return o, final


def _columns(width: int, heads: int) -> int:
    """Value columns of one program: whole cache lines of the state where there are heads enough to fill the chip."""
    columns = min(width, 32)
    return columns if heads * (width // columns) >= PROGRAMS else 16


@recur_step.register_fake
def _(q, k, v, log_decay, beta, a, b, bonus, initial, decay, update, scale):
    B, _, H, K = q.shape
    return q.new_empty(v.shape), q.new_empty(B, H, K, v.shape[3], dtype=torch.float32)


def run(problem: RecurrenceCall, q: Tensor, k: Tensor, v: Tensor, *, scale: float, parts: dict):
    """The signature that all backends share."""
    a, b = parts["removal"] or (None, None)
    log_decay, beta, bonus, initial = (
        parts[name] for name in ("log_decay", "beta_BTH", "bonus_HK", "initial_state_BHKV")
    )
    decay, update = DECAYS.index(problem.decay), UPDATES.index(problem.update)
    return recur_step(q, k, v, log_decay, beta, a, b, bonus, initial, decay, update, scale)
