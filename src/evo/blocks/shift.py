"""Token shift: what stood one position earlier, and a mix of it with what stands here (RWKV)."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.documents import document_starts


def shifted(x_BTD: Tensor, before_BD: Tensor | None, segments_BT: Tensor | None) -> Tensor:
    """x_{t-1} at every position, (B, T, D): `before_BD`, or zeros, at the first; zeros where a document begins."""
    if before_BD is None:
        before_BD = torch.zeros_like(x_BTD[:, 0])
    earlier_BTD = torch.cat((before_BD[:, None].to(x_BTD.dtype), x_BTD[:, :-1]), dim=1)
    if segments_BT is None:
        return earlier_BTD
    return earlier_BTD.masked_fill(document_starts(segments_BT)[..., None], 0.0)


def mixed(x_BTD: Tensor, y_BTD: Tensor, share: Tensor) -> Tensor:
    """x + share (y - x) in the dtype of x. Shares are weights, in float32 where activations are in half precision."""
    return torch.lerp(x_BTD, y_BTD, share.to(x_BTD.dtype))
