"""The summary of a generation: its row of the journal, of the live table and of the report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A generation in numbers.

    failures: candidates of it without a score. coverage, qd_score: of the result archive. best_objective, best (an id),
    best_score, best_scored (an id): the best objective and primary score so far, at the highest rung reached by then.
    improved: of the generation's trials, those that are new or better in their cell of the result archive. annealed:
    those that entered the working archive though worse.
    """

    generation: int
    temperature: float
    candidates: int
    failures: int
    coverage: float
    qd_score: float
    best_objective: float | None
    best: str | None
    best_score: float | None
    best_scored: str | None
    improved: int
    annealed: int
