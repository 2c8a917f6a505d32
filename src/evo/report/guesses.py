"""How well guesses ranked what was trained: those of a surrogate, and those of half a learning curve."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from math import isfinite

from evo.base.power_laws import fit
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings
from evo.evolution.surrogates.base import GUESSES
from evo.evolution.trial import Evaluation
from evo.report.record import Guessed
from evo.training.curve import Curve

HALF_LEAST = 4
"""Points that half a curve needs."""


def guessed(
    journal: Journal, settings: Settings, evaluations: Mapping[str, Evaluation], curves: Mapping[str, tuple[Curve, ...]]
) -> Guessed | None:
    """How the search's surrogate ranked those that gave scores; None where it had none. curves: see `Report`."""
    spec, primary = settings.evolve.surrogate, settings.primary
    if spec is None:
        return None
    generations = range(1, settings.evolve.generations + 1)
    guesses = {id: guess for number in generations for id, guess in (journal.fact(f"{GUESSES}/{number}") or {}).items()}
    scored = {id: own.scores[primary.name] for id, own in evaluations.items() if id in guesses and not own.cause}
    correlation = rank_correlation([guesses[id] for id in scored], [-primary.cost(score) for score in scored.values()])
    goals = {id: -primary.cost(own.scores[primary.name]) for id, own in evaluations.items() if not own.cause}
    ahead = {id: own for id in goals if curves.get(id) and (own := foreseen(curves[id][-1])) is not None}
    foresight = rank_correlation([-loss for loss in ahead.values()], [goals[id] for id in ahead])
    return Guessed(spec.label, len(scored), correlation, len(ahead), foresight)


def foreseen(curve: Curve) -> float | None:
    """The last training loss of a curve as its first half foretells it, by a power law of the steps, which may have a
    break; None where the half has too few points."""
    last = curve[-1][0]
    half = [(step, loss) for step, loss in curve if step <= last / 2 and isfinite(loss) and loss > 0]
    if len({step for step, _ in half}) < HALF_LEAST:
        return None
    return fit([step for step, _ in half], [loss for _, loss in half])(last)


def rank_correlation(one: Sequence[float], two: Sequence[float]) -> float | None:
    """Spearman's, ties by their mean ranks; None for fewer than three pairs, or where one side is one number."""
    from scipy.stats import rankdata  # takes most of a second

    if len(one) < 3 or len(set(one)) == 1 or len(set(two)) == 1:
        return None
    return statistics.correlation(rankdata(one).tolist(), rankdata(two).tolist())
