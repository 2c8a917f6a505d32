"""`evo train`: from a document to a checkpoint and a held-out score, resumable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import held, require_writable
from evo.base.rundirs import METRICS
from evo.base.signals import termination_raised
from evo.compiler.adapters import held_weights
from evo.compiler.compute import step_flops, step_tokens
from evo.dsl.canonical import content_hash, to_data
from evo.dsl.document import Document
from evo.dsl.patch import diff
from evo.dsl.task import Score
from evo.dsl.tracker import TrackerSpec
from evo.tasks.base import Task, open_task
from evo.training.checkpoint import (
    FILE,
    Checkpoint,
    load_checkpoint,
    restore_companion,
    restore_optimizer,
    save_checkpoint,
)
from evo.training.device import choose_device
from evo.training.loop import DivergedError, Progress, Trainer
from evo.training.metrics import Metrics
from evo.training.score import HELD_OUT_TOKENS, held_out_scores
from evo.training.setup import LeakError, make_trainer, verified_scores
from evo.training.stacked import Stack
from evo.training.trackers.base import Tracked, make_trackers
from evo.training.watch import Watch

GLANCE_TOKENS = 8_192
"""Held-out targets of a score that is taken while training goes on."""
SUSPICIOUS = "the score is better than is plausible for this text, although no leak was found at any position"
MOST_SHOWN = 5
"""Differences between documents in a message."""


@dataclass(frozen=True)
class TrainResult:
    """The end of a training run.

    train_loss: the task's, of the last batch, in nats per target; NaN if there was nothing left to do. auxiliary: by
    name what blocks add to it. scores: the task's on held-out data by name. primary: the one to compare models by.
    """

    content_hash: str
    step: int
    train_loss: float
    primary: Score
    scores: Mapping[str, float]
    auxiliary: Mapping[str, float]
    tokens_per_second: float
    parameters: int
    device: str
    corpus_digest: str
    checkpoint: str
    warnings: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Plain data, for `--json`: scores stand under their names; `auxiliary` is there if blocks add losses,
        `warnings` if there are any."""
        data = {
            "content_hash": self.content_hash,
            "step": self.step,
            "train_loss": None if math.isnan(self.train_loss) else self.train_loss,
            **self.scores,
        }
        rest = ("tokens_per_second", "parameters", "device", "corpus_digest", "checkpoint")
        if self.auxiliary:
            data["auxiliary"] = dict(self.auxiliary)
        data |= {name: getattr(self, name) for name in rest}
        return {**data, "warnings": list(self.warnings)} if self.warnings else data


@dataclass
class TrainingRun:
    """A trainer with the file it saves to. warnings: sentences for the user."""

    document: Document
    trainer: Trainer
    task: Task
    file: Path
    root: str
    warnings: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        document: Document,
        root: Path,
        folder: Path,
        device: str = "auto",
        *,
        kernels: str = "auto",
        steps: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
        resume: bool = False,
        threads: int | None = None,
        mode: str = "auto",
    ) -> TrainingRun:
        """Build or, with `resume`, load; check causality first. mode: see `Trainer`.

        weights: what a training that is not resumed starts from, by path; by default the draws of the document's seed.

        Raises:
            DiagnosticError: no such corpus (EVO500) or too short a one (EVO501), no such device (EVO510), kernels
                that cannot run a layer (EVO511), a leak (EVO520), a checkpoint that is in the way (EVO601), missing
                (EVO602) or of another document or text (EVO603).
            OSError: a folder where no checkpoint can be written.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        task = open_task(document.train.task, root)
        task.require(document.context)
        where = choose_device(device)
        file = folder / FILE
        require_writable(file)
        if file.exists() and not resume:
            help = "--resume goes on from it; --out names another folder"
            raise DiagnosticError([Diagnostic("EVO601", f"{file} exists", None, help)])
        Metrics(file.with_name(METRICS), 0, 0).require_own()
        saved = load_checkpoint(file) if resume else None
        if saved is not None:
            _require_same(saved, document, task)
        notes = tuple(_on_steps(saved, document, steps)) if saved else ()
        weights, steps = (saved.weights, steps or saved.steps) if saved else (weights, steps)
        try:
            trainer = make_trainer(document, task, where, weights, kernels=kernels, steps=steps, mode=mode)
        except LeakError as error:
            raise _leaks(error) from None
        if saved is not None:
            trainer.step = saved.step
            if saved.optimizer is not None and saved.step:
                restore_optimizer(trainer.optimizer, saved.optimizer)
                restore_companion(trainer.companion, saved.companion)
        return cls(document, trainer, task, file, str(root), (*task.warnings, *notes))

    def describe(self) -> list[str]:
        """What is about to happen, a line each."""
        plan, train = self.trainer.model.plan, self.document.train
        trained = f", {plan.trained_parameters:,} of them trained," if plan.is_adapted else ""
        lines = [
            f"{plan.parameters:,} parameters{trained} on {self.trainer.device}",
            self.task.describe(),
            f"steps {self.trainer.step} to {self.trainer.steps}, {train.batch} x {self.trainer.context} tokens each: "
            f"{self.trainer.steps * step_tokens(self.document):,} tokens, "
            f"{self.trainer.steps * step_flops(self.document):.3g} FLOPs in all",
        ]
        if self.trainer.device.type != "cpu":
            self.trainer.prepare()
            lines.append(f"{self.trainer.step_mode} steps: {self.trainer.step_reason}")
        return [*lines, *(f"warning: {warning}" for warning in self.warnings)]

    def carry_out(
        self,
        on_step: Callable[[Progress], None] | None,
        save_every: int,
        trackers: Sequence[TrackerSpec] = (),
    ) -> TrainResult:
        """Train to the end, saving on the way, and score. Ctrl-C and SIGTERM save before they end it.

        trackers: who is told what is measured, beside metrics.jsonl.

        Raises:
            DiagnosticError: the loss diverged (EVO521), or the trained model leaks (EVO520); the last checkpoint stays.
                Another process trains into the folder (EVO604).
        """
        with self.watched(on_step, trackers) as watch:
            carry_out_all([watch], save_every, lambda until: self.trainer.run(until, watch.note))
            return self.result(watch)

    @contextmanager
    def watched(self, on_step: Callable[[Progress], None] | None, trackers: Sequence[TrackerSpec]) -> Iterator[Watch]:
        """The run with its folder held, and with who is told of it. Raises as `carry_out` does."""
        tracked = Tracked(self.file.parent, self.document.name or self.file.parent.name, to_data(self.document))
        with held(self.file.parent), make_trackers(trackers, tracked) as told:
            file = self.file.with_name(METRICS)
            metrics = Metrics(file, self.trainer.steps, step_tokens(self.document))
            metrics.begin(self.trainer.step)
            last = Progress(self.trainer.step, self.trainer.steps, float("nan"), 0, 0.0)
            yield Watch(self.trainer, self.save, self._scores_so_far, metrics, told, on_step, last)

    def _scores_so_far(self) -> dict[str, float]:
        precision, context = self.document.train.precision, self.document.context
        return held_out_scores(self.trainer.model, self.task, context, tokens=GLANCE_TOKENS, precision=precision)

    def save(self) -> None:
        """Write the checkpoint as of now."""
        trainer = self.trainer
        weights = held_weights(trainer.model)
        state = trainer.optimizer.state_dict()
        beside = {} if trainer.companion is None else trainer.companion.state_dict()
        save_checkpoint(
            self.file,
            Checkpoint(self.document, weights, trainer.step, trainer.steps, self.task.digest, state, self.root, beside),
        )

    def result(self, watch: Watch) -> TrainResult:
        """Score what came of it. Raises DiagnosticError (EVO520, EVO521)."""
        trainer = self.trainer
        try:
            found = verified_scores(trainer, self.document, self.task, HELD_OUT_TOKENS)
        except DivergedError as error:
            raise _training_failed(str(error)) from None
        except LeakError as error:
            raise _leaks(error) from None
        watch.score(found.scores)
        last = watch.last
        return TrainResult(
            content_hash=content_hash(self.document),
            step=trainer.step,
            train_loss=last.loss,
            primary=self.task.primary,
            scores=found.scores,
            auxiliary=last.auxiliary,
            tokens_per_second=last.tokens_per_second,
            parameters=trainer.model.plan.parameters,
            device=str(trainer.device),
            corpus_digest=self.task.digest,
            checkpoint=str(self.file),
            warnings=(
                *self.warnings,
                *([SUSPICIOUS] if found.is_suspicious else []),
                *([] if trainer.companion is None else trainer.companion.warnings()),
            ),
        )


def carry_out_all(watches: Sequence[Watch], save_every: int, train: Callable[[int], object]) -> None:
    """Train runs that stand at one step to their end, saving on the way.

    train: takes all of them to a step. Raises DiagnosticError (EVO521) where one diverges; Ctrl-C and SIGTERM save.
    """
    first = watches[0].trainer
    try:
        with termination_raised():
            while first.step < first.steps:
                train(first.step + save_every - first.step % save_every)
                for watch in watches:
                    watch.pause()
    except DivergedError as error:
        raise _training_failed(str(error)) from None
    except KeyboardInterrupt:
        for watch in watches:
            watch.stopped()
        raise


def carry_out_stacked(
    runs: Sequence[TrainingRun],
    on_step: Callable[[Progress], None] | None,
    save_every: int,
    trackers: Sequence[TrackerSpec] = (),
) -> list[TrainResult]:
    """`carry_out` of runs that differ in their seeds, in one stack. on_step: is told of the first.

    Raises:
        StackError: they cannot be stacked; nothing was trained.
        DiagnosticError: as `carry_out`, for the first that fails.
    """
    stack = Stack([run.trainer for run in runs])
    with ExitStack() as held_open:
        listeners = [on_step, *[None] * (len(runs) - 1)]
        pairs = zip(runs, listeners, strict=True)
        watches = [held_open.enter_context(run.watched(listener, trackers)) for run, listener in pairs]

        def train(until: int) -> None:
            failures = stack.run(until, [watch.note for watch in watches])
            for run, failure in zip(runs, failures, strict=True):
                if failure is not None:
                    raise DivergedError(f"with seed {run.document.train.seed} {failure}")

        carry_out_all(watches, save_every, train)
        return [run.result(watch) for run, watch in zip(runs, watches, strict=True)]


def _leaks(error: LeakError) -> DiagnosticError:
    message, help = f"this organism leaks: {error}", "a score from a leak means nothing"
    return DiagnosticError([Diagnostic("EVO520", message, None, help)])


def _training_failed(message: str) -> DiagnosticError:
    help = "lower train.optimizer.lr, or raise the warm-up"
    return DiagnosticError([Diagnostic("EVO521", message, None, help)])


def _require_same(saved: Checkpoint, document: Document, task: Task) -> None:
    if content_hash(saved.document) != content_hash(document):
        edits = diff(saved.document, document).edits
        shown = "; ".join(map(str, edits[:MOST_SHOWN])) + ("; ..." if len(edits) > MOST_SHOWN else "")
        message, help = "the checkpoint was made from another document", "train it without --resume into another --out"
        if [edit.path for edit in edits] == [("train", "steps")]:
            help = f"put train.steps back and give --steps {document.train.steps}"
        raise DiagnosticError([Diagnostic("EVO603", f"{message}: {shown}", None, help)])
    if saved.corpus_digest != task.digest:
        raise DiagnosticError([Diagnostic("EVO603", f"'{task.name}' is no longer what it was trained on")])


def _on_steps(saved: Checkpoint, document: Document, steps: int | None) -> Iterator[str]:
    """What to say where a run is resumed for another number of steps than it was begun for."""
    if steps is None or steps == saved.steps:
        return
    if steps <= saved.step:
        yield f"{saved.step} steps are done already, so --steps {steps} leaves nothing to do"
        return
    scale = document.train.schedule.scale
    before, after = scale(max(0, saved.step - 1), saved.steps), scale(saved.step, steps)
    yield (
        f"the schedule is recomputed for {steps} steps instead of {saved.steps}: the rate goes from {before:.3g} to "
        f"{after:.3g} of its peak, and the weights will not be those of an uninterrupted run"
    )
