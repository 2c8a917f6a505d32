"""How much warmer scores are for later queries."""

from __future__ import annotations

import torch
from torch import Tensor


def heat(temperature: tuple[float, int, str, int] | None, start: int, x_BT: Tensor) -> Tensor | None:
    """What q is multiplied by at each position from `start` on, (T,): (1 + slope ln n), n ** slope or slope
    ln n, n as `TemperatureSpec` says; None where scores do not grow."""
    if temperature is None:
        return None
    slope, period, form, first = temperature
    p_T = torch.arange(start, start + x_BT.shape[1], device=x_BT.device, dtype=torch.float64) + first
    if form == "power":
        return ((1.0 + p_T / period) ** slope).to(x_BT.dtype)
    if form == "log":
        return (slope * torch.log1p(p_T / period)).to(x_BT.dtype)
    n_T = 1.0 + torch.floor(p_T / period) if form == "steps" else (p_T / period).clamp(min=1.0)
    return (1.0 + slope * torch.log(n_T)).to(x_BT.dtype)
