"""Sums of cross-entropy over held-out batches, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.tasks.base import Batch, Predict

BATCH_TOKENS = 4096
"""How many tokens go through a model at once where it is scored."""
IGNORED = -100
"""The target that torch's cross-entropy leaves out."""


def bits_per_byte(predict: Predict, batches: Iterable[Batch], token_bytes_V: Tensor) -> float:
    """The targets' -log2 p, summed and divided by the bytes that they stand for: a number that does not depend on how
    text is cut into tokens. Targets that stand for no byte are left out of both sums (as nanochat's `evaluate_bpb`).

    token_bytes_V: (V,) int64, see `Task.token_bytes`. NaN where logits are not finite or no target stands for a byte.
    """
    return _bits(predict, batches, token_bytes_V)


def bits_per_target(predict: Predict, batches: Iterable[Batch]) -> float:
    """The mean of the targets' -log2 p by weight. NaN where logits are not finite or no target counts."""
    return _bits(predict, batches, None)


@torch.no_grad()
def _bits(predict: Predict, batches: Iterable[Batch], token_bytes_V: Tensor | None) -> float:
    nats, count = torch.zeros((), dtype=torch.float64), 0.0
    for batch in batches:
        targets_N = batch.targets_BT.flatten()
        sizes_N = torch.ones_like(targets_N) if token_bytes_V is None else token_bytes_V[targets_N]
        weights_N = None if batch.weights_BT is None else batch.weights_BT.flatten()
        nats += _nats(predict(batch.inputs_BT), targets_N.masked_fill(sizes_N == 0, IGNORED), weights_N)
        count += float((sizes_N if weights_N is None else sizes_N * weights_N.double()).sum())
    return float(nats) / count / math.log(2) if count else math.nan


def _nats(logits_BTV: Tensor, targets_N: Tensor, weights_N: Tensor | None) -> Tensor:
    """The sum of -log p by weight, float64 on the CPU."""
    logits_NV, targets_N = logits_BTV.flatten(0, 1).float(), targets_N.to(logits_BTV.device)
    if weights_N is None:
        return F.cross_entropy(logits_NV, targets_N, reduction="sum").cpu().double()
    losses_N = F.cross_entropy(logits_NV, targets_N, reduction="none")
    return (losses_N.cpu().double() * weights_N).sum()
