"""The short convolution tap by tap. Every other backend is compared with this file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.kernels.documents import document_numbers


def short_convolution(
    x_BTD: Tensor,
    weight_DW: Tensor,
    *,
    activation: str | None,
    bias_D: Tensor | None = None,
    state_BWD: Tensor | None = None,
    segments_BT: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y_t = act(bias + sum_w weight[:, w] x_{t - (W-1) + w}) and the latest W-1 inputs.

    x_s = 0 where s is in another document than t, and in the new state where it is in another than the last token.
    """
    B, T, D = x_BTD.shape
    taps = weight_DW.shape[1]
    if state_BWD is None:
        state_BWD = x_BTD.new_zeros(B, taps - 1, D)
    past_BTD = torch.cat([state_BWD.to(x_BTD.dtype), x_BTD], dim=1)
    numbers_BT = None
    if segments_BT is not None and T:
        numbers_BT = F.pad(document_numbers(segments_BT), (taps - 1, 0))
    y = _seen(past_BTD, numbers_BT, 0, T) * weight_DW[:, 0]
    for w in range(1, taps):
        y = torch.addcmul(y, _seen(past_BTD, numbers_BT, w, T), weight_DW[:, w])
    if bias_D is not None:
        y = y + bias_D
    state_BWD = past_BTD[:, T:].clone()
    if numbers_BT is not None:
        state_BWD = state_BWD.masked_fill((numbers_BT[:, T:] != numbers_BT[:, -1:])[..., None], 0.0)
    y = F.silu(y) if activation == "silu" else y
    return y.to(x_BTD.dtype), state_BWD


def _seen(past_BTD: Tensor, numbers_BT: Tensor | None, w: int, T: int) -> Tensor:
    """What tap w multiplies at every token, (B, T, D)."""
    tapped_BTD = past_BTD[:, w : w + T]
    if numbers_BT is None:
        return tapped_BTD
    return tapped_BTD.masked_fill((numbers_BT[:, w : w + T] != numbers_BT[:, -T:])[..., None], 0.0)
