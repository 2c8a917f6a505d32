"""The definition of the grouped products, an entry at a time, and a form that asks the host for nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def product(x_NI: Tensor, weight_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """y_n = weight[e(n)] x_n, (N, O); row n belongs to the entry e(n) whose run of `counts_E` rows it lies in."""
    parts = x_NI.split(counts_E.tolist())
    return torch.cat([part @ weight_OI.t() for part, weight_OI in zip(parts, weight_EOI, strict=True)])


def outer(y_NO: Tensor, x_NI: Tensor, counts_E: Tensor) -> Tensor:
    """The gradient of the matrices, sum over the rows n of an entry of y_n^T x_n: (E, O, I)."""
    counts = counts_E.tolist()
    pairs = zip(y_NO.split(counts), x_NI.split(counts), strict=True)
    return torch.stack([y.t() @ x for y, x in pairs])


def product_of_all(x_NI: Tensor, weight_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """`product` by every matrix on every row, E times the work: for devices whose host must not wait for the counts."""
    return torch.bmm(_apart(x_NI, counts_E), weight_EOI.mT).sum(0)


def outer_of_all(y_NO: Tensor, x_NI: Tensor, counts_E: Tensor) -> Tensor:
    """`outer`, the same way."""
    return torch.bmm(_apart(y_NO, counts_E).mT, x_NI.expand(len(counts_E), *x_NI.shape))


def _apart(x_NI: Tensor, counts_E: Tensor) -> Tensor:
    """For each entry its own rows, and zeros for the others: (E, N, I)."""
    ends_E, at_N = counts_E.cumsum(0), torch.arange(x_NI.shape[0], device=x_NI.device)
    is_own_EN = (at_N >= (ends_E - counts_E)[:, None]) & (at_N < ends_E[:, None])
    return torch.where(is_own_EN[..., None], x_NI, 0.0)
