"""Verdicts made by hand."""

from __future__ import annotations

from evo.dsl.task import Score
from evo.evolution.verdict import Contestant, Verdict, compare
from evo.tasks.bytes.spec import BytesSpec

Scores = tuple[float, ...] | str
"""By seed, or the cause of a failure."""


def judged(
    scores: dict[str, Scores],
    winner: str,
    leader: str,
    best_seed: str,
    own_seed: str,
    primary: Score = BytesSpec.primary,
) -> Verdict:
    """The verdict that such scores give."""
    by_id = {
        id: Contestant(id, 100, (), own) if isinstance(own, str) else Contestant(id, 100, own)
        for id, own in scores.items()
    }
    seeds = max((len(own) for own in scores.values() if not isinstance(own, str)), default=3)
    pairs = (winner, best_seed), (winner, own_seed), (leader, best_seed)
    compared = [compare(by_id[one], by_id[two], primary) for one, two in pairs]
    return Verdict(winner, leader, best_seed, own_seed, seeds, "1e+12 FLOPs", tuple(by_id.values()), *compared)
