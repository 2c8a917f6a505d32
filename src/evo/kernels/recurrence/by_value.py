"""Outer updates whose decays are those of value channels: S_t = S_{t-1} diag(exp(log_decay_t)) + k_t^T v_t.

The transpose of a decay by key channel, read along the other axis, so that none of the family's kernels is it. It goes
in chunks, in each of which tokens meet by halves (`halves`); only exponentials of numbers below 0 are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.documents import document_numbers
from evo.kernels.plain import plain_table
from evo.kernels.recurrence.halves import decayed_sums
from evo.kernels.recurrence.scores import LOG_ZERO

CHUNK = 16


@dataclass(frozen=True)
class Documents:
    """Where a chunk has tokens of one document. Leading dims (B, 1, N), N chunks of C tokens.

    number_C1: of the document. goes_on_C1: 1 where it is the one that the chunk before ended in, else 0. stays_C1: 1
    where it is the one that the chunk ends in, else 0.
    """

    number_C1: Tensor
    goes_on_C1: Tensor
    stays_C1: Tensor


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
    T = q_BTHK.shape[1]
    size = min(CHUNK, 1 << (T - 1).bit_length())

    def cut(x_BTHX: Tensor) -> Tensor:
        """(B, H, N, C, X). The zeros behind the end leave the state as it is."""
        return F.pad(x_BTHX.to(compute), (0, 0, 0, 0, 0, -T % size)).transpose(1, 2).unflatten(2, (-1, size))

    q, k, v, log_decay = (cut(x) for x in (q_BTHK, k_BTHK, v_BTHV, log_decay_BTHV))
    documents = None if segments_BT is None else _documents(segments_BT, size, compute)
    upto = log_decay.clamp(min=LOG_ZERO).cumsum(-2)
    seen, kept = upto.exp(), v * (upto[..., -1:, :] - upto).exp()
    left = seen[..., -1:, :]
    if documents is not None:
        seen, kept = seen * documents.goes_on_C1, kept * documents.stays_C1
        left = left * documents.goes_on_C1[..., -1:, :]
    incoming, last_BHKV = _carry(left, k.transpose(-1, -2) @ kept, initial_state_BHKV.to(compute))
    o = torch.addcmul(decayed_sums(_among(q, k, documents), v, upto), q @ incoming, seen)
    return o.flatten(2, 3)[:, :, :T].transpose(1, 2), last_BHKV


def _documents(segments_BT: Tensor, size: int, dtype: torch.dtype) -> Documents:
    """What is added behind the end belongs to the last document."""
    number_BT = document_numbers(segments_BT)
    padding = number_BT[:, -1:].expand(-1, -number_BT.shape[1] % size)
    number = torch.cat((number_BT, padding), dim=1).unflatten(1, (-1, size))[:, None, ..., None]
    ends = number[..., -1:, :]
    before = torch.cat((torch.zeros_like(ends[:, :, :1]), ends[:, :, :-1]), dim=2)
    return Documents(number, (number == before).to(dtype), (number == ends).to(dtype))


def _carry(left: Tensor, written: Tensor, state_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    """The state that enters each chunk, (B, H, N, K, V), and the one that leaves the last."""
    incoming = []
    for left_BH1V, written_BHKV in zip(left.unbind(2), written.unbind(2), strict=True):
        incoming.append(state_BHKV)
        state_BHKV = torch.addcmul(written_BHKV, left_BH1V, state_BHKV)
    return torch.stack(incoming, dim=2), state_BHKV


def _among(q: Tensor, k: Tensor, documents: Documents | None) -> Tensor:
    """q_t . k_s of a chunk, (B, H, N, C, C), 0 for tokens of two documents; only s <= t counts."""
    scores = (q @ k.transpose(-1, -2)).to(q.dtype)  # which autocast may have lowered
    if documents is None:
        return scores
    return scores.masked_fill(documents.number_C1 != documents.number_C1.transpose(-1, -2), 0.0)


TABLE = plain_table("recurrence by value", recur_by_value)
