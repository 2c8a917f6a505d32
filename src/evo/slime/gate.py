"""A gate that the loss closes: while it is far above its moving average, nothing is born and nothing dies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Gate:
    """Closed from when a loss exceeds `freeze` times the average until one is below `thaw` times it.

    The average moves over about `horizon` losses, and not while the gate is closed; 0 before the first. A loss that is
    no number exceeds whatever the average is.
    """

    freeze: float
    thaw: float
    horizon: int
    average: float = 0.0
    is_closed: bool = False

    def follow(self, losses: Iterable[float]) -> None:
        """Take in losses in their order; what comes before the first that is finite was never noted."""
        for loss in losses:
            if self.average == 0.0:
                self.average = loss if math.isfinite(loss) else 0.0
                continue
            limit = self.thaw if self.is_closed else self.freeze
            self.is_closed = not loss <= limit * self.average
            if not self.is_closed:
                self.average += (loss - self.average) / self.horizon
