"""Trials and evaluations: what the search wants to have measured, and what was measured. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

from evo.dsl.schedules import Course
from evo.evolution.candidate import Candidate
from evo.evolution.operators.base import WeightSources
from evo.slime.lives import Lived
from evo.training.curve import Curve


@dataclass(frozen=True)
class Budget:
    """How many tokens the measurements of one trial read.

    held_out_tokens: for the score. snapshot_tokens: of these, for the loss of a snapshot. moment_tokens: training
    ones, for the second moments that choose what a snapshot keeps.
    """

    held_out_tokens: int = 32_768
    snapshot_tokens: int = 4_096
    moment_tokens: int = 2_048

    def after(self, tokens: int) -> Budget:
        """The same for trainings on so many tokens: a score reads half as many at most, and as many as a snapshot's at
        least. So it costs a sixth of training, and errs by less than what the training's seed makes of it."""
        return replace(self, held_out_tokens=max(self.snapshot_tokens, min(self.held_out_tokens, tokens // 2)))


FULL_BUDGET = Budget()


FOUNDING = -1
"""The rung, below the first, of the weights that a candidate has from a search's being begun warm."""


@dataclass(frozen=True, order=True)
class WeightsRef:
    """The weights that a candidate had after its trial at a rung, named instead of carried.

    rung: `FOUNDING` for its founder's weights, as they are in it without training. repeat: how many trials of the
    candidate at that rung were asked for before it, each with a seed of its own.
    """

    candidate: str
    rung: int = 0
    repeat: int = 0


@dataclass(frozen=True)
class Start:
    """The weights that a candidate begins from, at every rung.

    sources: the trials whose weights it inherits, first parent first; empty for fresh draws. origins: which paths moved
    on the way, see `Proposal`. offset: training steps along the line of first sources, so that training reads on.
    charge: what training the sources took, in the unit of the budget, which the candidate has to pay for.
    """

    sources: tuple[WeightsRef, ...] = ()
    origins: WeightSources = ()
    offset: int = 0
    charge: float = 0.0


FRESH = Start()
"""Nothing is inherited."""


@dataclass(frozen=True)
class Trial:
    """One candidate that is to be trained from its `start` for so many `steps` in all, and measured. `rung` 0 is the
    first.

    rungs: the steps at the end of each rung of the candidate, from the one at which it begins on; empty for one rung
    alone. done: how many of the steps the trial at the rung below took and left for this one. repeat: see `WeightsRef`.
    """

    candidate: Candidate
    rung: int
    steps: int
    start: Start = FRESH
    rungs: tuple[int, ...] = ()
    done: int = 0
    repeat: int = 0

    @property
    def ref(self) -> WeightsRef:
        """The name of the weights that it will leave."""
        return WeightsRef(self.candidate.id, self.rung, self.repeat)

    @property
    def course(self) -> Course:
        """The steps that it takes, as the beginning of a longer training where there are rungs above it."""
        return Course(self.steps, self.rungs[0], self.rungs[-1]) if self.rungs else Course.of(self.steps)

    @property
    def entry(self) -> int:
        """The rung at which the candidate begins."""
        return self.rung - self.rungs.index(self.steps) if self.rungs else self.rung

    @property
    def below(self) -> WeightsRef:
        """The trial at the rung below."""
        return WeightsRef(self.candidate.id, self.rung - 1)

    @property
    def climbs(self) -> bool:
        """Whether a longer trial may go on from it."""
        return not self.repeat and self.course.whole > self.steps

    @property
    def id(self) -> str:
        """Its name: the candidate's, with the rung where that is not the first, and which repetition it is."""
        rung, repeat = f"@{self.rung}" if self.rung else "", f"#{self.repeat}" if self.repeat else ""
        return f"{self.candidate.id}{rung}{repeat}"


@dataclass(frozen=True)
class Evaluation:
    """What was measured, or why nothing could be.

    cause: empty, or leak, diverged, timeout, memory, error, crash. scores: numbers by name, the task's own first, the
    primary one at their head; then train_loss (nats per token), `loss.NAME` for auxiliary losses, the figures of a
    companion (`train.life`), gradient_evenness, inherited (the share of parameters that came from the start),
    snapshot_bytes, fp32_bytes and snapshot_increase (of the held-out loss by restoring, relative). A failure has those
    that were known by then.
    measures: a point of the archive, in [0, 1] each. curve: (step, training loss), see `evo.training.curve`, of the
    steps that were the trial's own. lives: of the pseudopods of living pools in these steps. state: weights and
    optimizer where a longer trial goes on; kept beside the journal, as it can be computed again. weights: as they
    were trained, where the job asked for them.
    """

    cause: str = ""
    message: str = ""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    measures: tuple[float, ...] = ()
    snapshot: bytes = b""
    curve: Curve = ()
    lives: tuple[Lived, ...] = ()
    state: bytes = field(default=b"", compare=False, repr=False)
    weights: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True)
class Timing:
    """How long a trial took, in wall seconds, and when it was recorded, in seconds since 1970."""

    seconds: float
    ended: float


@dataclass(frozen=True)
class Result:
    """A trial and what came of it; of several trials of a candidate at one rung, the first and their means.

    count: how many there are.
    """

    trial: Trial
    evaluation: Evaluation
    count: int = 1


def by_rung(results: Mapping[Trial, Evaluation]) -> list[Result]:
    """One result for each candidate and rung, in the order of the first trials; one that failed fails them all."""
    groups: dict[tuple[str, int], list[Result]] = {}
    for trial, evaluation in results.items():
        groups.setdefault((trial.candidate.id, trial.rung), []).append(Result(trial, evaluation))
    return [_combined(group) for group in groups.values()]


def latest(results: Mapping[Trial, Evaluation]) -> list[Result]:
    """One result a candidate, in their order: of the highest rung that gave scores, or of the highest there is."""
    rows = by_rung(results)
    by_id = {r.trial.candidate.id: r for r in sorted(rows, key=lambda r: (not r.evaluation.cause, r.trial.rung))}
    return sorted(by_id.values(), key=lambda r: (r.trial.candidate.generation, r.trial.candidate.slot))


def _combined(group: list[Result]) -> Result:
    first = min(group, key=lambda result: result.trial.repeat)
    count, is_seed = len(group), not first.trial.candidate.parents
    if is_seed and not first.evaluation.cause:  # the run is founded on it: what fails again is left out
        group = [result for result in group if not result.evaluation.cause]
    failed = next((result for result in group if result.evaluation.cause), None)
    if failed is not None:
        return Result(first.trial, failed.evaluation, count)
    if len(group) == 1:
        return Result(first.trial, first.evaluation, count)
    evaluations, own = [result.evaluation for result in group], first.evaluation
    scores = {name: fmean(e.scores[name] for e in evaluations if name in e.scores) for name in own.scores}
    measures = tuple(map(fmean, zip(*(e.measures for e in evaluations), strict=True)))
    return Result(first.trial, replace(own, scores=scores, measures=measures), count)
