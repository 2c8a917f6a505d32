"""The short causal depthwise convolution in front of a recurrence (Mamba, DeltaNet, Hyena)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {None: lambda x: x, "silu": F.silu}


def short_convolution(
    x_BTD: Tensor,
    weight_DW: Tensor,
    *,
    bias_D: Tensor | None = None,
    activation: str | None = None,
    state_BWD: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y_t = act(bias + sum_w weight[:, w] x_{t - (W-1) + w}): the last tap multiplies the current token.

    `state_BWD` holds the W-1 inputs before x_0, (B, W-1, D), zeros when absent. Returns y (B, T, D) in x's dtype and
    the state
    after the last token. Raises ValueError on an unknown activation or shapes that do not fit.
    """
    B, T, D = x_BTD.shape
    taps = weight_DW.shape[1]
    if activation not in ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; known: {', '.join(map(str, ACTIVATIONS))}")
    if weight_DW.shape[0] != D:
        raise ValueError(f"weight must be ({D}, W), found {tuple(weight_DW.shape)}")
    if state_BWD is None:
        state_BWD = x_BTD.new_zeros(B, taps - 1, D)
    if state_BWD.shape != (B, taps - 1, D):
        raise ValueError(f"state must be {(B, taps - 1, D)}, found {tuple(state_BWD.shape)}")
    past_BTD = torch.cat([state_BWD.to(x_BTD.dtype), x_BTD], dim=1)
    y = past_BTD[:, :T] * weight_DW[:, 0]
    for w in range(1, taps):
        y = torch.addcmul(y, past_BTD[:, w : w + T], weight_DW[:, w])
    if bias_D is not None:
        y = y + bias_D
    return ACTIVATIONS[activation](y).to(x_BTD.dtype), past_BTD[:, T:].clone()
