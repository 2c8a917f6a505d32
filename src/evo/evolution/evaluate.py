"""The evaluation of one candidate: a pure function of its job, run by an engine in this or another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from evo.archive.snapshot.blob import to_bytes
from evo.archive.snapshot.encode import encode
from evo.archive.snapshot.record import Snapshot
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.blocks.companion import Event
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.compiler.resolve import resolve
from evo.dsl.document import Document, parse
from evo.dsl.schedules import Course
from evo.dsl.tree import replaced
from evo.engines.jobs import Outcome, OutsideError
from evo.evolution.fitness import Bar
from evo.evolution.inheritance import starting_weights
from evo.evolution.operators.base import WeightSources
from evo.evolution.trial import FULL_BUDGET, Budget, Evaluation
from evo.slime.lives import lives
from evo.tasks.base import Task, open_task
from evo.training.behaviour import behaviour
from evo.training.curve import LossCurve
from evo.training.loop import BudgetError, DivergedError, Progress, Trainer
from evo.training.moments import InputMoments
from evo.training.sample import ScoredLogits, held_out_sample, sample_bits
from evo.training.setup import LeakError, make_trainer, verified_scores
from evo.training.state import pack_state, restore_state

EVALUATE = "evo.evolution.evaluate:evaluate"
"""The name by which engines call `evaluate`."""
SAMPLE_PARTS = 2
"""Of the held-out windows that a snapshot is judged by: a guess that is far off is measured on the first alone."""


@dataclass(frozen=True)
class TrialJob:
    """All that an evaluation depends on: a trial with its weights in hand. Picklable.

    document: canonical YAML. root: the folder that relative corpus paths start from. parents: weights of the trial's
    sources as safetensors, or nothing for a fresh start. kernels: the backend asked for; a candidate it cannot run
    fails. task_digest: of the task that the run began with; empty for any. origins: see `Proposal`. course: the steps;
    the document's by default. state: what a shorter trial of the course left after `done` steps; empty to take these
    again, to the same bytes. is_kept: whether a longer trial may go on from this one. repeat: which further seed is
    used. offset: steps its ancestry has trained, so that it reads on. tolerance: of the snapshot; None makes none.
    exact: what
    its objective has to clear for the weights to come back as they were trained; None for never.
    is_verdict: whether it is scored on the text of the verdict instead of that of searches. metadata: written into the
    snapshot.
    """

    document: str
    root: str
    device: str = "cpu"
    kernels: str = "auto"
    task_digest: str = ""
    parents: tuple[bytes, ...] = ()
    origins: WeightSources = ()
    course: Course | None = None
    state: bytes = b""
    done: int = 0
    is_kept: bool = False
    repeat: int = 0
    offset: int = 0
    max_seconds: float | None = None
    tolerance: float | None = 0.01
    budget: Budget = FULL_BUDGET
    exact: Bar | None = None
    is_verdict: bool = False
    metadata: tuple[tuple[str, str], ...] = ()


def evaluate(job: TrialJob) -> Evaluation:
    """Inherit, check causality, train, score, check again, probe, and take a snapshot.

    Expected failures come back as a cause.

    Raises:
        OutsideError: the task cannot be opened, or is no longer what the run began with.
    """
    begun = begin(job)
    if isinstance(begun, Evaluation):
        return begun
    try:
        state = _train(job, begun.trainer, begun.note)
    except (DivergedError, BudgetError) as error:
        return begun.failed(error)
    return begun.measured(state)


@dataclass
class Begun:
    """A trial that is ready to train. base: the weights it starts from. known: scores so far. seen: its curve.

    events: what a companion did.
    """

    job: TrialJob
    document: Document
    task: Task
    base: dict[str, Tensor]
    trainer: Trainer
    known: dict[str, float]
    seen: LossCurve
    events: list[Event] = field(default_factory=list[Event])

    def note(self, progress: Progress) -> None:
        """Take a look into account."""
        self.seen.note(progress)
        self.events.extend(progress.events)

    def failed(self, error: DivergedError | BudgetError) -> Evaluation:
        """What a training that ended so is recorded as."""
        if isinstance(error, BudgetError):  # how far it came is a matter of the machine
            return Evaluation("timeout", str(error), self.known)
        return Evaluation("diverged", str(error), self.known, curve=self.seen.points)

    def measured(self, state: bytes = b"") -> Evaluation:
        """What a training that came to its end is worth. state: see `Evaluation`."""
        last, trainer = self.seen.last, self.trainer
        assert last is not None, "a training has a step"
        known = {**self.known, "train_loss": last.loss}
        known |= {f"loss.{name}": value for name, value in last.auxiliary.items()}
        known |= {} if trainer.companion is None else trainer.companion.figures()
        found = _measured(self.job, self.document, trainer, self.task, self.base, known)
        return replace(found, curve=self.seen.points, lives=lives(self.events), state=state)


def begin(job: TrialJob, mode: str = "auto") -> Begun | Evaluation:
    """Build a trial's model, check that it is causal, and prepare its trainer; a leak is an evaluation already.

    mode: see `Trainer`. Raises as `evaluate` does.
    """
    document = seeded(parse(job.document).document, job.repeat)
    plan = resolve(document.organism)
    task = _opened(job, document)
    task.require(document.context)
    base, inheritance = starting_weights(plan, document, [load_tensors(blob) for blob in job.parents], job.origins)
    known = {"inherited": inheritance.share}
    try:
        trainer = make_trainer(
            document, task, job.device, base, kernels=job.kernels, course=job.course, offset=job.offset, mode=mode
        )
    except LeakError as error:
        return _leaking(error, known)
    return Begun(job, document, task, base, trainer, known, LossCurve(job.done))


def seeded(document: Document, repeat: int) -> Document:
    """The document with the seed of a further trial of it: its own, counted on."""
    return replaced(document, {("train", "seed"): (document.train.seed + repeat) % 2**63}) if repeat else document


def _train(job: TrialJob, trainer: Trainer, on_step: Callable[[Progress], None]) -> bytes:
    """Train to the end. Gives the state that a longer trial goes on from, where one may."""
    began, state = time.perf_counter(), b""
    if job.state:
        restore_state(trainer, job.state)
    if job.is_kept:
        trainer.run(trainer.spec.schedule.shared(trainer.course), on_step, job.max_seconds)
        state = pack_state(trainer)
    spent = time.perf_counter() - began if state else 0.0
    trainer.run(None, on_step, None if job.max_seconds is None else job.max_seconds - spent)
    return state


def _opened(job: TrialJob, document: Document) -> Task:
    try:
        task = open_task(document.train.task, Path(job.root))
        found = task.digest
    except DiagnosticError as error:
        raise OutsideError(error.diagnostics) from None
    if job.task_digest and found != job.task_digest:
        message = f"'{task.name}' is no longer what the run began with"
        raise OutsideError([Diagnostic("EVO603", message, None, "put the old text back, then `evo resume` the run")])
    return task.sides()[job.is_verdict]


def outcome_of(outcome: Outcome) -> Evaluation:
    """What a job gave, or the cause of its failure.

    Raises:
        DiagnosticError: the failure was none of the job's doing.
    """
    if outcome.failure is not None:
        if outcome.failure.cause == "outside":
            raise DiagnosticError(outcome.failure.diagnostics)
        return Evaluation(outcome.failure.cause, outcome.failure.message)
    assert isinstance(outcome.value, Evaluation)
    return outcome.value


def _measured(
    job: TrialJob,
    document: Document,
    trainer: Trainer,
    task: Task,
    base: dict[str, Tensor],
    known: dict[str, float],
) -> Evaluation:
    model, context, tokens = trainer.model, document.context, job.budget.held_out_tokens
    sample = held_out_sample(task, context, job.budget.snapshot_tokens, cover=tokens, parts=SAMPLE_PARTS)
    scored = ScoredLogits(sample)
    try:
        found = verified_scores(trainer, document, task, tokens, scored.note)
    except DivergedError:
        return Evaluation("diverged", "the held-out score is not a finite number", known)
    except LeakError as error:
        return _leaking(error, known)
    suspicion = {"suspicious": 1.0} if found.is_suspicious else {}
    seen = behaviour(model, task, context, document.train.seed)
    scores = {**found.scores, "gradient_evenness": seen.gradient_evenness, **known, **suspicion}
    if job.tolerance is None:
        return Evaluation(scores=scores, measures=seen.measures.vector())
    blob, snapshot = take_snapshot(job, job.tolerance, model, task, document, base, scored)
    sizes = {"snapshot_bytes": len(blob), "fp32_bytes": snapshot.fp32_bytes, "snapshot_increase": snapshot.increase}
    is_kept = job.exact is not None and job.exact.is_cleared(scores, model.plan)
    weights = pack_weights({path: p.detach().cpu() for path, p in model.named_parameters()}) if is_kept else b""
    return Evaluation(scores={**scores, **sizes}, measures=seen.measures.vector(), snapshot=blob, weights=weights)


def _leaking(error: LeakError, known: dict[str, float]) -> Evaluation:
    leak = error.leak
    return Evaluation("leak", f"{error} (values {leak.in_values:.1e}, gradients {leak.in_gradients:.1e})", known)


def take_snapshot(
    job: TrialJob,
    tolerance: float,
    model: Organism,
    task: Task,
    document: Document,
    base: dict[str, Tensor],
    scored: ScoredLogits,
) -> tuple[bytes, Snapshot]:
    """The smallest snapshot within the tolerance, as bytes and as a record with its measured losses.

    scored: the trained model's logits for the held-out windows that restored weights are judged by.
    """
    moved = {path: p.detach().clone() for path, p in model.named_parameters()}
    trained = {**base, **moved}  # what adapters keep in another form has not moved
    where = next(model.parameters()).device
    if where.type != "cuda":  # not every device computes in float64
        where = torch.device("cpu")

    def losses_of(weights: dict[str, Tensor]) -> Iterator[float]:
        load_into(model, weights)
        return sample_bits(model, scored.sample, document.train.precision)

    moments = input_moments(model, task, document.context, job.budget.moment_tokens)
    snapshot = encode(
        base,
        {path: t.to(where) for path, t in trained.items()},
        moments,
        losses_of,
        tolerance,
        dict(job.metadata),
        scored.bits(),
    )
    load_into(model, trained)
    return to_bytes(snapshot), snapshot


@torch.no_grad()
def input_moments(model: Organism, task: Task, context: int, tokens: int) -> dict[str, Tensor]:
    """Second moments of the inputs of every matrix on some training text: what a snapshot keeps reaches the children,
    so held-out text may judge it but not shape it."""
    device = next(model.parameters()).device
    rows = max(1, tokens // context)
    batch = task.batch(0, rows, context, Stream(0).child("moments")).to(device)
    moments = InputMoments(model)
    model(batch.inputs_BT, Flow(project=moments))
    return moments.means()


def load_into(model: Organism, weights: Mapping[str, Tensor]) -> None:
    """Copy weights by path into a model."""
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.copy_(weights[path])


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as one safetensors blob, to travel to a worker."""
    return save_tensors({path: tensor.contiguous() for path, tensor in weights.items()})
