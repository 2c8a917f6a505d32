"""Rows by the expert that each meets: sorted, so that one grouped product serves all of them, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.kernels.dispatch import AUTO
from evo.kernels.fused import Permutation, permute, unpermute
from evo.kernels.fused.support import REFERENCE
from evo.kernels.grouped import Groups


class Met:
    """The order in which rows meet their experts; of N tokens with P choices each, choice p of token n is row n P + p.

    chosen_R: int64, the expert of each row; rows of classes beyond the `count` experts ride with the last one.
    backend: what multiplies; the rows are moved by the reference if that is asked for.
    """

    def __init__(self, chosen_R: Tensor, count: int, backend: str) -> None:
        self._rows = Permutation.of(chosen_R.argsort(stable=True))
        self._backend = REFERENCE if backend == REFERENCE else AUTO
        counts_E = (chosen_R[:, None] == torch.arange(count, device=chosen_R.device)).sum(0)
        idle_1 = chosen_R.shape[0] - counts_E.sum(0, keepdim=True)
        self.groups = Groups(torch.cat((counts_E[:-1], counts_E[-1:] + idle_1)), backend)

    def together(self, x_NX: Tensor, shares_NP: Tensor | None = None) -> Tensor:
        """A row for each choice of a token, times its share, if any; those of each expert one after another: (R, X)."""
        return permute(x_NX, self._rows, shares_NP, backend=self._backend)

    def apart(self, y_RX: Tensor) -> Tensor:
        """Such rows in the order that they had, (R, X)."""
        return unpermute(y_RX, self._rows, backend=self._backend)

    def summed(self, y_RX: Tensor, shares_NP: Tensor) -> Tensor:
        """The sum of each token's rows, times their shares: (N, X)."""
        return unpermute(y_RX, self._rows, shares_NP, backend=self._backend)
