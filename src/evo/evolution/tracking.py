"""A search told to trackers, beside whoever watches it."""

from __future__ import annotations

from evo.evolution.candidate import Candidate
from evo.evolution.journal import Journal
from evo.evolution.observer import Observer
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Trial
from evo.training.trackers.base import Trackers


class Tracking:
    """Passes on what it hears. A step of the trackers is a trial that was evaluated, so they count on after a stop.

    Of a trial they are told its scores (`trial/NAME`) and seconds, at the end of a generation the numbers of its
    summary (`search/NAME`).
    """

    def __init__(self, observer: Observer, trackers: Trackers, journal: Journal) -> None:
        """journal: as the search finds it; of what stands there the trackers were told before."""
        self.observer, self.trackers = observer, trackers
        self.count, self.known = len(journal.timings()), journal.finished()

    def warned(self, warnings: tuple[str, ...]) -> None:
        self.observer.warned(warnings)

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None:
        self.observer.generation_began(generation, candidates, temperature)

    def promoted(self, trials: list[Trial]) -> None:
        self.observer.promoted(trials)

    def repeated(self, trials: list[Trial]) -> None:
        self.observer.repeated(trials)

    def evaluated(self, trial: Trial, evaluation: Evaluation, seconds: float) -> None:
        self.count += 1
        scores = {f"trial/{name}": value for name, value in evaluation.scores.items()}
        self.trackers.note(self.count, {**scores, "trial/seconds": seconds})
        self.observer.evaluated(trial, evaluation, seconds)

    def generation_ended(self, summary: Summary) -> None:
        if summary.generation >= self.known:
            numbers = {name: value for name, value in vars(summary).items() if isinstance(value, (int, float))}
            self.trackers.note(self.count, {f"search/{name}": value for name, value in numbers.items()})
        self.observer.generation_ended(summary)

    def verdict_began(self, trainings: int) -> None:
        self.observer.verdict_began(trainings)

    def verdict_trained(self, trainings: int) -> None:
        self.observer.verdict_trained(trainings)
