"""Tubes: a memory of what flowed, in which the recent and the weighty count most and all else fades."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tubes:
    """total / weight of all that was stored, each counted by its weight and by decay ** (stores since then).

    A value: storing gives new tubes, so that one state may go on in several ways. total: (...), as what is stored.
    """

    decay: float = 0.9
    total: Tensor | None = None
    weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay <= 1.0:
            raise ValueError(f"a decay lies in [0, 1], not {self.decay}")

    def store(self, data: Tensor, weight: float = 1.0) -> Tubes:
        """The tubes after `data` flowed through with a weight > 0. Raises ValueError for another shape or weight."""
        if not weight > 0.0:
            raise ValueError(f"a weight is above 0, not {weight}")
        if self.total is None:
            return Tubes(self.decay, data * weight, weight)
        if self.total.shape != data.shape:
            raise ValueError(f"the tubes hold {tuple(self.total.shape)}, found {tuple(data.shape)}")
        return Tubes(self.decay, self.total * self.decay + data * weight, self.weight * self.decay + weight)

    def recall(self) -> Tensor | None:
        """The weighted mean of what flowed; None before anything did."""
        return None if self.total is None else self.total / self.weight

    def clear(self) -> Tubes:
        """Empty tubes of the same decay."""
        return Tubes(self.decay)

    def detached(self) -> Tubes:
        """The same without its graph: where backpropagation through time ends."""
        return self if self.total is None else Tubes(self.decay, self.total.detach(), self.weight)
