"""How much luck there is in one trial, and which trials it might have decided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from evo.evolution.archives import Archives
from evo.evolution.scoring import Scoring
from evo.evolution.standings import Standing
from evo.evolution.trial import Evaluation, Result, Trial, WeightsRef, latest


class Noise:
    """The spread of the objective among trials of one candidate with other seeds, pooled over all that have several."""

    def __init__(self) -> None:
        self._squares, self._freedom = 0.0, 0

    def note(self, objectives: Sequence[float]) -> None:
        """Take the trials of one candidate into account."""
        mean = fmean(objectives)
        self._squares += math.fsum((value - mean) ** 2 for value in objectives)
        self._freedom += len(objectives) - 1

    @property
    def deviation(self) -> float | None:
        """The standard deviation of one trial; None while no candidate had several."""
        return math.sqrt(self._squares / self._freedom) if self._freedom else None


class Contests:
    """Finds candidates that would win by less than the noise: they are to be tried again with another seed.

    repeats: the most trials of one candidate at one rung; 1 tries none again. The best seed gets all of them: everyone
    is held against it, and it shows what the noise is.
    """

    def __init__(self, repeats: int, scoring: Scoring, archives: Archives) -> None:
        self.repeats, self.scoring, self.archives = repeats, scoring, archives
        self.noise = Noise()

    def note(self, evaluations: Mapping[Trial, Evaluation]) -> None:
        """Learn from the trials of a finished generation."""
        groups: dict[tuple[str, int], list[Result]] = {}
        for trial, evaluation in evaluations.items():
            if not evaluation.cause:
                key = trial.candidate.id, trial.rung
                groups.setdefault(key, []).append(Result(trial, evaluation))
        for group in groups.values():
            if len(group) > 1:
                self.noise.note([self.scoring.terms(result).objective for result in group])

    def contested(self, generation: int, evaluations: Mapping[Trial, Evaluation]) -> list[WeightsRef]:
        """The latest trial of each candidate of a generation that is to be tried again: a pure function of results."""
        if self.repeats == 1:
            return []
        scored = [result for result in latest(evaluations) if not result.evaluation.cause]
        if generation == 0:
            chosen = scored and [min(scored, key=lambda r: (-r.trial.rung, self.scoring.cost(r)))]
        else:
            chosen = [result for result in scored if self._is_close(result)]
        return [WeightsRef(r.trial.candidate.id, r.trial.rung, r.count - 1) for r in chosen if r.count < self.repeats]

    def _is_close(self, result: Result) -> bool:
        """Whether it would be the best, or take a cell, by less than the deviation of the difference."""
        deviation = self.noise.deviation
        if deviation is None:
            return False
        objective = self.scoring.terms(result).objective
        own = Standing(result.trial.ref, objective, result.evaluation.measures, result.count)
        gaps = [(objective - rival.objective, rival.count) for rival in self.archives.rivals(own)]
        return any(0 < gap < deviation * math.sqrt(1 / own.count + 1 / count) for gap, count in gaps)
