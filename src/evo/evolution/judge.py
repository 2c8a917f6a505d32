"""The end of a generation: its trials are scored, placed in the archives and summed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evo.evolution.archives import Archives
from evo.evolution.fitness import Terms
from evo.evolution.journal import Placed
from evo.evolution.noise import Contests
from evo.evolution.scoring import Scoring, no_seed
from evo.evolution.standings import Standing
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Result, Trial, WeightsRef, by_rung, latest


@dataclass(frozen=True)
class Judgement:
    """What became of a generation: one result a candidate, objectives by trial, placements, and the summary."""

    results: list[Result]
    terms: dict[WeightsRef, Terms]
    placed: list[Placed]
    summary: Summary


class Judge:
    """Judges generation after generation. The same evaluations give the same judgements, so a resumed run replays."""

    def __init__(self, scoring: Scoring, archives: Archives, repeats: int) -> None:
        self.scoring, self.archives = scoring, archives
        self.contests = Contests(repeats, scoring, archives)

    def judge(self, generation: int, evaluations: Mapping[Trial, Evaluation]) -> Judgement:
        """Score and place the trials of a generation; each candidate counts with the highest rung that gave scores.

        Raises:
            DiagnosticError: no seed could be evaluated (EVO620), with the causes.
        """
        shown = latest(evaluations)
        scored = [result for result in shown if not result.evaluation.cause]
        if generation == 0:
            if not scored:
                raise no_seed(evaluations)
            self.scoring.set_references([result for result in by_rung(evaluations) if not result.evaluation.cause])
        terms = {row.trial.ref: self.scoring.terms(row) for row in scored}
        temperature = self.archives.temperature(generation)
        self.contests.note(evaluations)
        standings = [
            Standing(r.trial.ref, terms[r.trial.ref].objective, r.evaluation.measures, r.count) for r in scored
        ]
        placed = self.archives.place(generation, standings)
        for row in scored:
            self.scoring.note(row)
        summary = self._summary(generation, temperature, len(shown), len(scored), placed)
        return Judgement(shown, terms, placed, summary)

    def _summary(self, generation: int, temperature: float, tried: int, scored: int, placed: list[Placed]) -> Summary:
        statistics = self.archives.result.statistics()
        best, scored_best = self.archives.best(), self.scoring.best
        return Summary(
            generation=generation,
            temperature=temperature,
            candidates=tried,
            failures=tried - scored,
            coverage=statistics.coverage,
            qd_score=statistics.qd_score,
            best_objective=best and best.objective,
            best=best and best.id,
            best_score=scored_best and scored_best[0],
            best_scored=scored_best and scored_best[1],
            improved=sum(p.archive == "result" and p.status in ("new", "improved") for p in placed),
            annealed=sum(p.archive == "working" and p.status == "accepted" for p in placed),
        )
