"""The verdict on a search: what it found and what it began with, trained from scratch at equal compute, several seeds.

Every candidate of a search was scored on text that the search chose by, once, and the best of many is lucky. So the
best variants and the seeds that they are held against are trained anew, each from several seeds, and scored on text
that no search read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from evo.base.intervals import difference
from evo.compiler.compute import whole_steps
from evo.dsl.task import Score
from evo.evolution.documents import document_of
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings
from evo.evolution.trial import FRESH, Start, WeightsRef

FACT = "verdict"
"""Under `verdict/CANDIDATE/SEED` the journal has what came of each training."""

INHERITED, SCRATCH = "inherited", "scratch"
"""The two trainings that tell what inheritance was worth."""

Outcome = Literal["better", "worse", "within noise", "unknown"]


@dataclass(frozen=True)
class Contestant:
    """One candidate of a verdict: its primary scores by seed, or the cause of a training that failed.

    steps: of each training.
    """

    id: str
    steps: int
    scores: tuple[float, ...]
    cause: str = ""

    @property
    def mean(self) -> float | None:
        """The mean score; None where a training failed."""
        return fmean(self.scores) if self.scores and not self.cause else None


@dataclass(frozen=True)
class Comparison:
    """One contestant against another: by how much its mean score is higher, give or take half a 95 % interval.

    half_width: None where there is one seed. outcome: `better` and `worse` by the score's direction where zero lies
    outside; `unknown` where a training failed, there is one seed, or both are one and the same.
    """

    one: str
    two: str
    difference: float | None
    half_width: float | None
    outcome: Outcome


@dataclass(frozen=True)
class Verdict:
    """What a search found, trained from scratch.

    winner: of the best objective. leader: of the best primary score. best_seed: the seed with the best primary score.
    own_seed: that of the winner's line. against_best: winner and best seed. against_own: winner and own seed.
    leader_against_best: leader and best seed. seeds: how many trainings each has. budget: of each. inheritance: the
    winner with the weights that it inherited, and trained from scratch for the compute of both trainings together; None
    where it inherited none.
    """

    winner: str
    leader: str
    best_seed: str
    own_seed: str
    seeds: int
    budget: str
    contestants: tuple[Contestant, ...]
    against_best: Comparison
    against_own: Comparison
    leader_against_best: Comparison
    inheritance: Comparison | None = None

    @property
    def by_id(self) -> dict[str, Contestant]:
        """The contestants by candidate."""
        return {contestant.id: contestant for contestant in self.contestants}

    @property
    def found(self) -> str | None:
        """The variant that is better than the best seed: the winner, or else the leader, or None."""
        if self.against_best.outcome == "better":
            return self.winner
        return self.leader if self.leader_against_best.outcome == "better" else None


@dataclass(frozen=True)
class Training:
    """One training that a verdict needs. seed: counted from the document's own. start: what it begins from. arm: told
    apart from the training that every contestant has."""

    candidate: str
    document: str
    steps: int
    seed: int
    start: Start = FRESH
    arm: str = ""

    @property
    def key(self) -> str:
        """Under which the journal has what came of it."""
        return "/".join(filter(None, (FACT, self.candidate, self.arm, str(self.seed))))


def trainings(settings: Settings, journal: Journal) -> list[Training]:
    """All trainings of a finished search's verdict, seed by seed; none where it is turned off."""
    budget, seeds = settings.verify_budget, settings.evolve.verify.seeds
    documents = {id: journal.candidate(id).document for id in dict.fromkeys(_chosen(settings, journal))}
    steps = {id: whole_steps(budget, document_of(text)) for id, text in documents.items()}
    own = [Training(id, text, steps[id], seed) for seed in range(seeds) for id, text in documents.items()]
    return own + inheritance_trainings(settings, journal, next(iter(documents)))


def inheritance_trainings(settings: Settings, journal: Journal, winner: str) -> list[Training]:
    """The winner again from the weights that it inherited, and from scratch at equal compute, ancestors' included;
    none where it inherited nothing."""
    rung = journal.rung(winner)
    assert rung is not None, "winners have scores"
    trial, text = journal.trial(WeightsRef(winner, rung)), journal.candidate(winner).document
    if not trial.start.sources:
        return []
    share = settings.evolve.fidelity.shares[rung] + settings.age / settings.train_budget.amount
    total = whole_steps(settings.train_budget, document_of(text), share)
    arms = {INHERITED: (trial.steps, trial.start), SCRATCH: (total, FRESH)}
    seeds = range(settings.evolve.verify.seeds)
    return [Training(winner, text, steps, seed, start, arm) for seed in seeds for arm, (steps, start) in arms.items()]


def missing(settings: Settings, journal: Journal) -> list[Training]:
    """Those that were not carried out yet."""
    return [training for training in trainings(settings, journal) if journal.fact(training.key) is None]


def verdict(settings: Settings, journal: Journal) -> Verdict | None:
    """The verdict on a run, once all its trainings are done; None before, and where it is turned off."""
    wanted = trainings(settings, journal) if journal.generations() else []
    found = {training.key: journal.fact(training.key) for training in wanted}
    if not wanted or None in found.values():
        return None
    winner, leader, best_seed, own_seed = _chosen(settings, journal)
    by_id = {
        id: _contestant([row for row in wanted if row.candidate == id and not row.arm], found)
        for id in dict.fromkeys((winner, leader, best_seed, own_seed))
    }
    compared = {
        pair: compare(by_id[pair[0]], by_id[pair[1]], settings.primary)
        for pair in ((winner, best_seed), (winner, own_seed), (leader, best_seed))
    }
    return Verdict(
        winner=winner,
        leader=leader,
        best_seed=best_seed,
        own_seed=own_seed,
        seeds=settings.evolve.verify.seeds,
        budget=str(settings.verify_budget),
        contestants=tuple(by_id.values()),
        against_best=compared[winner, best_seed],
        against_own=compared[winner, own_seed],
        leader_against_best=compared[leader, best_seed],
        inheritance=_inheritance(wanted, found, settings.primary),
    )


def _inheritance(wanted: list[Training], found: dict[str, Any], primary: Score) -> Comparison | None:
    arms = {arm: [row for row in wanted if row.arm == arm] for arm in (INHERITED, SCRATCH)}
    if not all(arms.values()):
        return None
    one, two = (replace(_contestant(rows, found), id=arm) for arm, rows in arms.items())
    return compare(one, two, primary)


def compare(one: Contestant, two: Contestant, primary: Score) -> Comparison:
    """One contestant against another."""
    if one.id == two.id or one.mean is None or two.mean is None:
        return Comparison(one.id, two.id, None, None, "unknown")
    found = difference(one.scores, two.scores)
    if len(one.scores) == 1:
        return Comparison(one.id, two.id, found.mean, None, "unknown")
    outcome: Outcome = "within noise"
    if found.is_clear:
        outcome = "better" if primary.is_better(found.mean, 0.0) else "worse"
    return Comparison(one.id, two.id, found.mean, found.half_width, outcome)


def _contestant(own: list[Training], found: dict[str, Any]) -> Contestant:
    outcomes = [found[training.key] for training in own]
    cause = next((outcome["cause"] for outcome in outcomes if outcome["cause"]), "")
    scores = tuple(outcome["score"] for outcome in outcomes if not outcome["cause"])
    return Contestant(own[0].candidate, own[0].steps, scores, cause)


def _chosen(settings: Settings, journal: Journal) -> tuple[str, str, str, str]:
    """Winner, leader, best seed and the winner's own seed."""
    last = journal.generations()[-1]
    winner, leader = str(last.best), str(last.best_scored)
    return winner, leader, _best_seed(settings.primary, journal), [*_line(journal, winner)][-1]


def _best_seed(primary: Score, journal: Journal) -> str:
    """The seed with the best primary score at the highest rung that a seed reached, the first among equals."""
    costs, seeds = journal.costs(primary), [seed.id for seed in journal.candidates(0)]
    reached = {id: rung for id in seeds if (rung := journal.rung(id)) is not None}
    return min(reached, key=lambda id: (-reached[id], costs[reached[id]][id]))


def _line(journal: Journal, id: str) -> Iterator[str]:
    """A candidate and its first parents."""
    yield id
    while parents := journal.candidate(id).parents:
        id = parents[0]
        yield id
