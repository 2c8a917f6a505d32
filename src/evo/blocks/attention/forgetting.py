"""Forget gates of attention: scores fall by the logs of the gates between a key and its query."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.base import compute_dtype


def summed(logits_BTH: Tensor, before_BSH: Tensor | None) -> Tensor:
    """The sums of log sigmoid(logits) up to each position, (B, S + T, H), behind those of earlier positions."""
    logs_BTH = F.logsigmoid(logits_BTH.to(compute_dtype(logits_BTH))).cumsum(1)
    if before_BSH is None or not before_BSH.shape[1]:
        return logs_BTH
    return torch.cat((before_BSH, before_BSH[:, -1:] + logs_BTH), dim=1)


def fall(forgot_BSH: Tensor, queries: int) -> Tensor:
    """What is added to the scores of the latest queries: the logs over (s, t], (B, H, T, S) (Lin et al. 2503.02130)."""
    by_head_BHS = forgot_BSH.transpose(1, 2)
    return by_head_BHS[..., -queries:, None] - by_head_BHS[..., None, :]
