"""Angles that tokens add up: with them, decays by channel are complex."""

from __future__ import annotations

import torch
from torch import Tensor

TURN = 2 * torch.pi


def summed_angles(rate_BTHR: Tensor, step_BTH: Tensor | None, before_BHR: Tensor | None) -> Tensor:
    """The sums of the angles up to each token, (B, T, H, R), without whole turns: rates, or rates times the step.

    They are summed in float64: far on, float32 holds no angle.
    """
    angle = rate_BTHR if step_BTH is None else rate_BTHR * step_BTH[..., None].to(rate_BTHR.dtype)
    total = angle.double().cumsum(1)
    if before_BHR is not None:
        total = total + before_BHR.double()[:, None]
    return total.remainder(TURN).to(rate_BTHR.dtype)


def turn(x_BTHK: Tensor, angle_BTHR: Tensor) -> Tensor:
    """Pairs of channels, i and K / 2 + i, turned by an angle each."""
    first, second = x_BTHK.chunk(2, dim=-1)
    cos, sin = angle_BTHR.cos().to(x_BTHK.dtype), angle_BTHR.sin().to(x_BTHK.dtype)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


def of_pairs(log_decay: Tensor | None) -> Tensor | None:
    """Decays by channel as both channels of a pair have them, which turn together: the mean of their logs."""
    if log_decay is None or log_decay.ndim < 4:
        return log_decay
    first, second = log_decay.chunk(2, dim=-1)
    return ((first + second) / 2).repeat(1, 1, 1, 2)
