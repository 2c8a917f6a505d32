"""Rows by the expert that each meets: sorted, so that one grouped product serves all of them, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.grouped import Groups


class Met:
    """The order in which rows meet their experts. Both ways are lookups, so both passes are deterministic.

    chosen_R: int64, the expert of each row; rows of classes beyond the `count` experts ride with the last one.
    """

    def __init__(self, chosen_R: Tensor, count: int, backend: str) -> None:
        self._order_R = chosen_R.argsort(stable=True)
        counts_E = (chosen_R[:, None] == torch.arange(count, device=chosen_R.device)).sum(0)
        idle_1 = chosen_R.shape[0] - counts_E.sum(0, keepdim=True)
        self.groups = Groups(torch.cat((counts_E[:-1], counts_E[-1:] + idle_1)), backend)

    def together(self, x_RX: Tensor) -> Tensor:
        """Rows, those of each expert one after another."""
        return x_RX.index_select(0, self._order_R)

    def apart(self, y_RX: Tensor) -> Tensor:
        """Such rows in the order that they had."""
        return y_RX.index_select(0, self._order_R.argsort())
