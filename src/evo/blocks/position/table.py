"""Tables by position: what follows from a position and from no weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evo.kernels.operators import lasting_tensors


class Table:
    """Rows of positions 0, 1, ...: computed in float64 on the host, kept per device, dtype and length.

    A captured step may copy nothing from the host, so it reads what the steps before it left here. Nothing is ever let
    go of, for such a step knows addresses only; lengths are powers of two.
    """

    def __init__(self, of_positions: Callable[[Tensor], Tensor]) -> None:
        """of_positions: (T,) float64 -> (T, ...) float64."""
        self.of_positions = of_positions
        self._kept: dict[tuple[torch.device, torch.dtype, int], Tensor] = {}

    def rows(self, start: int, end: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Those of start, ..., end - 1."""
        key = (device, dtype, 1 << (end - 1).bit_length())
        if key not in self._kept:
            with lasting_tensors():
                positions_T = torch.arange(key[-1], dtype=torch.float64)
                self._kept[key] = self.of_positions(positions_T).to(dtype).to(device)
        return self._kept[key][start:end]
