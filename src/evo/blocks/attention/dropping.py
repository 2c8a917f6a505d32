"""Attention whose probabilities are dropped in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from evo.blocks.flow import Flow
from evo.kernels.attention import attend


def dropping(flow: Flow) -> Callable[..., Tensor]:
    """`attend`, with the dropout of attention probabilities that a training pass has."""
    dropout = flow.dropout
    if dropout is None:
        return attend

    def run(q_BTHK: Tensor, k_BSGK: Tensor, v_BSGV: Tensor, **settings: Any) -> Tensor:
        batch, tokens, heads, _ = q_BTHK.shape
        keep_BHTS = dropout.factors((batch, heads, tokens, k_BSGK.shape[1]), "attention", q_BTHK.dtype)
        return attend(q_BTHK, k_BSGK, v_BSGV, keep_BHTS=keep_BHTS, **settings)

    return run
