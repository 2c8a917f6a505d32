"""A weight meets an input: the linear map, and a stack of them (experts)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from evo.kernels.grouped import Groups, grouped_product


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: Groups | None = None) -> Tensor:
    """x W^T + b.

    Args:
        x: (..., in); for a stack (E, ..., in), or with groups (N, in).
        weight: (out, in); for a stack (E, out, in), each entry meeting its own part of x.
        bias: (out,); for a stack (E, out).
        groups: which rows of x meet which entry of a stack, where they are not equally many.

    Returns:
        (..., out), (E, ..., out) or (N, out), in x's dtype, or autocast's.
    """
    if weight.ndim == 2:
        return F.linear(x, weight, bias)
    if groups is not None:
        y_NO = grouped_product(x, weight, groups)
        return y_NO if bias is None else y_NO + bias[groups.entries(x.shape[0])].to(y_NO.dtype)
    y_EXO = x.flatten(1, -2) @ weight.mT
    if bias is not None:
        y_EXO = y_EXO + bias[:, None]
    return y_EXO.unflatten(1, x.shape[1:-1])
