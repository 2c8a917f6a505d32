"""What a training run measures on its way, as its folder and whoever listens are told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from evo.training.loop import Progress, Trainer
from evo.training.metrics import Metrics
from evo.training.trackers.base import Trackers


@dataclass
class Watch:
    """Notes what a trainer does.

    save: writes its checkpoint. scores: on a little held-out data, by name. last: the last look, counted over all
    parts; before: tokens and seconds of the parts that are over.
    """

    trainer: Trainer
    save: Callable[[], None]
    scores: Callable[[], dict[str, float]]
    metrics: Metrics
    told: Trackers
    on_step: Callable[[Progress], None] | None
    last: Progress
    before: tuple[int, float] = (0, 0.0)

    def note(self, progress: Progress) -> None:
        """Take a look into account."""
        tokens, seconds = self.before
        self.last = replace(progress, tokens=tokens + progress.tokens, seconds=seconds + progress.seconds)
        self.metrics.note(self.last)
        self.told.step(self.last)
        if self.on_step is not None:
            self.on_step(self.last)

    def pause(self) -> None:
        """Score between two parts, then save: whenever this is killed, beside a checkpoint there is its score."""
        self.before = self.last.tokens, self.last.seconds
        if self.trainer.step < self.trainer.steps:
            self.score(self.scores())
        self.save()

    def stopped(self) -> None:
        """Save what there is, if it agrees."""
        if self.trainer.is_consistent:
            self.save()
            events = self.trainer.take_events()
            self.metrics.note_events(self.trainer.step, events)
            self.told.events(events)

    def score(self, scores: Mapping[str, float]) -> None:
        """Tell held-out scores."""
        self.metrics.score(self.trainer.step, scores)
        self.told.scores(self.trainer.step, scores)
