"""The residual stream between two blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from evo.blocks.base import Norm
from evo.blocks.flow import Flow


@dataclass(frozen=True)
class Residual:
    """A residual stream, (B, T, D): x, or x + y with the sum left open so that the next norm takes it along."""

    x_BTD: Tensor
    y_BTD: Tensor | None = None

    def value(self) -> Tensor:
        """The stream as one tensor."""
        return self.x_BTD if self.y_BTD is None else self.x_BTD + self.y_BTD

    def normed(self, norm: Norm, flow: Flow) -> tuple[Tensor, Tensor]:
        """The stream as one tensor, and its norm."""
        if self.y_BTD is None:
            return self.x_BTD, norm(self.x_BTD, flow)
        return norm.after_sum(self.x_BTD, self.y_BTD, flow)
