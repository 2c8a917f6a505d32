"""The learning curve of one training: its loss over its steps, thinned to a few points. Torch-free."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from evo.training.loop import Progress

Curve: TypeAlias = tuple[tuple[int, float], ...]
"""(step, mean loss in nats per target of the looks since the point before it), in order."""
MOST_POINTS = 32
PLACES = 4
"""Decimals that are kept of a loss."""


class LossCurve:
    """Gathers the task's training loss at the steps beyond `after`, evenly thinned up to the end of the training.

    Every look counts: a point is a mean, so a curve of few points is smooth and leaves nothing out.
    """

    def __init__(self, after: int = 0) -> None:
        self._after = after
        self._points: list[tuple[int, float]] = []
        self._looks: list[float] = []
        self.last: Progress | None = None
        """The last look of all."""

    def note(self, progress: Progress) -> None:
        """Take a look into account."""
        self.last = progress
        own, whole = progress.step - self._after, progress.steps - self._after
        if own <= 0:
            return
        self._looks.append(progress.loss)
        before = self._points[-1][0] - self._after if self._points else 0
        if own * MOST_POINTS // whole > before * MOST_POINTS // whole:
            self._points.append((progress.step, round(fmean(self._looks), PLACES)))
            self._looks.clear()

    @property
    def points(self) -> Curve:
        """What has been gathered so far."""
        return tuple(self._points)
