"""A weight meets an input: the linear map, and a stack of them (experts)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b.

    Args:
        x: (..., in); for a stack (E, ..., in).
        weight: (out, in); for a stack (E, out, in), each entry meeting its own part of x.
        bias: (out,); for a stack (E, out).

    Returns:
        (..., out) or (E, ..., out), in x's dtype, or autocast's.
    """
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    y_EXO = x.flatten(1, -2) @ weight.mT
    if bias is not None:
        y_EXO = y_EXO + bias[:, None]
    return y_EXO.unflatten(1, x.shape[1:-1])
