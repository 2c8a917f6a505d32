"""Trials and evaluations: what the search wants to have measured, and what was measured. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evo.evolution.candidate import Candidate
from evo.evolution.operators.base import WeightSources


@dataclass(frozen=True)
class Budget:
    """How many tokens the measurements of one trial read.

    held_out_tokens: for the score. snapshot_tokens: of these, for the loss of a snapshot. moment_tokens: training
    ones, for the second moments that choose what a snapshot keeps.
    """

    held_out_tokens: int = 32_768
    snapshot_tokens: int = 4_096
    moment_tokens: int = 2_048


FULL_BUDGET = Budget()


@dataclass(frozen=True)
class WeightsRef:
    """The weights that a candidate had after its trial at a rung, named instead of carried."""

    candidate: str
    rung: int = 0


@dataclass(frozen=True)
class Start:
    """The weights that a trial begins from.

    sources: the trials whose weights it inherits, first parent first; empty for fresh draws. origins: which paths moved
    on the way, see `Proposal`. offset: training steps along the line of first sources, so that training reads on.
    """

    sources: tuple[WeightsRef, ...] = ()
    origins: WeightSources = ()
    offset: int = 0


FRESH = Start()
"""Nothing is inherited."""


@dataclass(frozen=True)
class Trial:
    """One candidate that is to be trained for so many `steps` from its `start`, and measured. `rung` 0 is the first."""

    candidate: Candidate
    rung: int
    steps: int
    start: Start = FRESH

    @property
    def ref(self) -> WeightsRef:
        """The name of the weights that it will leave."""
        return WeightsRef(self.candidate.id, self.rung)

    @property
    def id(self) -> str:
        """Its name: the candidate's, with the rung where that is not the first."""
        return f"{self.candidate.id}@{self.rung}" if self.rung else self.candidate.id


@dataclass(frozen=True)
class Evaluation:
    """What was measured, or why nothing could be.

    cause: empty, or leak, diverged, timeout, memory, error, crash. scores: numbers by name, the task's own first, the
    primary one at their head; then train_loss (nats per token), `loss.NAME` for auxiliary losses, gradient_evenness,
    inherited (the share of parameters that came from the start), snapshot_bytes, fp32_bytes and snapshot_increase (of
    the held-out loss by restoring, relative). A failure has those that were known by then.
    measures: a point of the archive, in [0, 1] each.
    """

    cause: str = ""
    message: str = ""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    measures: tuple[float, ...] = ()
    snapshot: bytes = b""


@dataclass(frozen=True)
class Result:
    """A trial and what came of it."""

    trial: Trial
    evaluation: Evaluation


def latest(results: Mapping[Trial, Evaluation]) -> list[Result]:
    """One result a candidate, in their order: of the highest rung that gave scores, or of the highest there is."""
    rows = [Result(trial, evaluation) for trial, evaluation in results.items()]
    by_id = {r.trial.candidate.id: r for r in sorted(rows, key=lambda r: (not r.evaluation.cause, r.trial.rung))}
    return sorted(by_id.values(), key=lambda r: (r.trial.candidate.generation, r.trial.candidate.slot))
