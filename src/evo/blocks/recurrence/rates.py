"""What the kinds of decay compute: the log of the decay, and the step that sets it if there is one."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import compute_dtype
from evo.blocks.constant import Constant
from evo.blocks.flow import Flow
from evo.blocks.recurrence.decays import ChannelDecay, HeadDecay, LearnedDecay, TokenDecay

LEAST_RATE = 1e-4
"""The least rate that a token makes (Mamba-3)."""


class Learned(Protocol):
    """What a recurrence has learned of its decay: the weights that its `DecaySpec` plans."""

    heads: int
    head_decay: Constant
    decay: nn.Parameter | None
    decay_down: nn.Parameter | None
    decay_up: nn.Parameter | None
    decay_bias: nn.Parameter | None
    decay_rate: nn.Parameter | None
    decay_rates: nn.Parameter | None


Decay = tuple[Tensor | None, Tensor | None]
"""The log decay, (H,), (B, T, H) or (B, T, H, K), None for nothing forgotten; and the step (B, T, H)."""


def constant(block: Learned, decay: HeadDecay, x_BTD: Tensor, flow: Flow) -> Decay:
    """The same at every token, (H,)."""
    return block.head_decay.like(x_BTD, compute_dtype(x_BTD)), None


def learned(block: Learned, decay: LearnedDecay, x_BTD: Tensor, flow: Flow) -> Decay:
    """-exp(rate), (H,), or the same at all tokens, (B, T, H, K)."""
    assert block.decay_rate is not None
    log_decay = -block.decay_rate.to(compute_dtype(x_BTD)).exp()
    return (log_decay.expand(*x_BTD.shape[:2], -1, -1) if decay.is_by_channel else log_decay), None


def by_token(block: Learned, decay: TokenDecay, x_BTD: Tensor, flow: Flow) -> Decay:
    """-exp(rate) softplus(x W + bias), (B, T, H) (Dao & Gu 2405.21060; Yang et al. 2412.06464), or its other form."""
    assert block.decay is not None
    assert block.decay_bias is not None
    logit_BTH = flow.project(x_BTD, block.decay).to(compute_dtype(x_BTD)) + block.decay_bias
    if not decay.has_step:
        return F.logsigmoid(logit_BTH), None
    step_BTH = F.softplus(logit_BTH)
    if decay.least or decay.most is not None:
        step_BTH = step_BTH.clamp(decay.least, decay.most)
    if block.decay_rates is not None:
        rate_BTH = F.softplus(flow.project(x_BTD, block.decay_rates).to(step_BTH.dtype))
        return -rate_BTH.clamp_min(LEAST_RATE) * step_BTH, step_BTH
    assert block.decay_rate is not None
    return -block.decay_rate.exp() * step_BTH, step_BTH


def by_channel(block: Learned, decay: ChannelDecay, x_BTD: Tensor, flow: Flow) -> Decay:
    """logsigmoid(up(down(x)) + bias) / 16, (B, T, H, K) (GLA, Yang et al. 2312.06635), or its other forms."""
    inner, last = x_BTD, block.decay
    if decay.narrow:
        assert block.decay_down is not None
        inner, last = flow.project(x_BTD, block.decay_down), block.decay_up
    assert last is not None
    assert block.decay_bias is not None
    logit_BTX = flow.project(inner, last).to(compute_dtype(x_BTD)) + block.decay_bias
    if block.decay_rate is None:
        return (F.logsigmoid(logit_BTX) / decay.temperature).unflatten(-1, (block.heads, -1)), None
    logit_BTHK, rate_H1 = logit_BTX.unflatten(-1, (block.heads, -1)), block.decay_rate.exp()[:, None]
    if decay.form == "softplus":
        return -rate_H1 * F.softplus(logit_BTHK), None
    return -decay.bound * (rate_H1 * logit_BTHK).sigmoid(), None
