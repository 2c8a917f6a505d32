"""Outer updates whose decays are those of value channels: S_t = S_{t-1} diag(exp(log_decay_t)) + k_t^T v_t.

The transpose of a decay by key channel, read along the other axis, so that none of the family's kernels is it. It goes
in chunks short enough to weigh each pair of tokens by itself; only exponentials of numbers below 0 are taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.documents import document_starts
from evo.kernels.plain import plain_table
from evo.kernels.recurrence.scores import LOG_ZERO, lower_mask

CHUNK = 16


def recur_by_value(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    log_decay_BTHV: Tensor,
    *,
    initial_state_BHKV: Tensor,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """o_t = q_t S_t (B, T, H, V) and the last state (B, H, K, V), in float32, or float64 where anything is.

    segments_BT: integer ids of packed documents: where the id changes, S begins at zero.
    """
    compute = torch.promote_types(q_BTHK.dtype, initial_state_BHKV.dtype)
    q, k, v, log_decay = (x.to(compute).transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHV, log_decay_BTHV))
    log_decay, state = log_decay.clamp(min=LOG_ZERO), initial_state_BHKV.to(compute)
    starts_BT = torch.zeros(q_BTHK.shape[:2], dtype=torch.bool, device=q.device)
    if segments_BT is not None:
        starts_BT = document_starts(segments_BT)
    documents_BT = starts_BT.cumsum(1)
    before_B, found = torch.zeros_like(documents_BT[:, 0]), []
    for begin in range(0, q.shape[2], CHUNK):
        part = slice(begin, begin + CHUNK)
        documents_BC = documents_BT[:, part]
        o, state = _chunk(
            q[:, :, part], k[:, :, part], v[:, :, part], log_decay[:, :, part], state, documents_BC, before_B
        )
        before_B = documents_BC[:, -1]
        found.append(o)
    return torch.cat(found, dim=2).transpose(1, 2), state


def _chunk(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor, documents_BC: Tensor, before_B: Tensor
) -> tuple[Tensor, Tensor]:
    """Of one chunk, (B, H, C, ...). before_B: the document that the state belongs to."""
    upto_BHCV = log_decay.cumsum(2)
    meets_BCC = (documents_BC[:, :, None] == documents_BC[:, None]) & lower_mask(q.shape[2], q.device, strict=False)
    goes_on_B1C1 = (documents_BC == before_B[:, None])[:, None, :, None]
    left_BHCCV = (upto_BHCV[:, :, :, None] - upto_BHCV[:, :, None]).masked_fill(
        ~meets_BCC[:, None, ..., None], LOG_ZERO
    )
    weight_BHCCV = left_BHCCV.exp() * (q @ k.transpose(-1, -2)).masked_fill(~meets_BCC[:, None], 0.0)[..., None]
    own_BHCV = (weight_BHCCV * v[:, :, None]).sum(3)
    carried_BHCV = (q @ state) * upto_BHCV.exp() * goes_on_B1C1
    last_B1C1 = (documents_BC == documents_BC[:, -1:])[:, None, :, None]
    written = k.transpose(-1, -2) @ (v * (upto_BHCV[:, :, -1:] - upto_BHCV).exp() * last_B1C1)
    return own_BHCV + carried_BHCV, state * upto_BHCV[:, :, -1, None].exp() * goes_on_B1C1[:, :, -1:] + written


TABLE = plain_table("recurrence by value", recur_by_value)
