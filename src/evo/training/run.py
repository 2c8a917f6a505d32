"""`evo train`: from a document to a checkpoint and a held-out score, resumable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.build import build
from evo.compiler.kernels import use_kernels
from evo.compiler.resolve import resolve
from evo.data.corpus import Corpus, CorpusError, load_corpus
from evo.dsl.canonical import content_hash
from evo.dsl.document import Document
from evo.training.causality import find_leak
from evo.training.checkpoint import Checkpoint, load_checkpoint, restore_optimizer, save_checkpoint
from evo.training.device import choose_device
from evo.training.loop import DivergedError, Progress, Trainer
from evo.training.score import HELD_OUT_TOKENS, bits_per_byte

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainResult:
    """The end of a training run. Loss in nats per byte of the last batch, NaN if there was nothing left to do."""

    content_hash: str
    step: int
    train_loss: float
    bits_per_byte: float
    tokens_per_second: float
    parameters: int
    device: str
    corpus_digest: str
    checkpoint: str

    def to_data(self) -> dict[str, Any]:
        """Plain data, for `--json`."""
        data = asdict(self)
        return {**data, "train_loss": None if math.isnan(self.train_loss) else self.train_loss}


@dataclass
class TrainingRun:
    """A trainer with the file it saves to."""

    document: Document
    trainer: Trainer
    corpus: Corpus
    file: Path
    root: str

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
        resume: bool = False,
        threads: int | None = None,
    ) -> TrainingRun:
        """Build or, with `resume`, load; check causality first.

        Raises:
            DiagnosticError: no such corpus (EVO500) or too short a one (EVO501), no such device (EVO510), kernels
                that cannot run a layer (EVO511), a leak (EVO520), a checkpoint that is in the way (EVO601), missing
                (EVO602) or of another document or text (EVO603).
        """
        if threads is not None:
            torch.set_num_threads(threads)
        corpus = read_corpus(document, root)
        require_windows(corpus, document)
        where = choose_device(device)
        file = folder / FILE
        if file.exists() and not resume:
            help = "--resume goes on from it; --out names another folder"
            raise DiagnosticError([Diagnostic("EVO601", f"{file} exists", None, help)])
        saved = load_checkpoint(file) if resume else None
        if saved is not None:
            _require_same(saved, document, corpus)
        model = build(resolve(document.organism), document.train.seed, where, saved.weights if saved else None)
        context = document.train.context or document.organism.context
        use_kernels(model, kernels, batch=document.train.batch, tokens=context)
        leak = find_leak(model)
        if leak is not None:
            message = f"this organism leaks: outputs before token {leak.cut} depend on later inputs"
            raise DiagnosticError([Diagnostic("EVO520", message, None, "a score from a leak means nothing")])
        trainer = Trainer(model, corpus, document.train, steps=steps or (saved.steps if saved else None))
        if saved is not None:
            trainer.step = saved.step
            if saved.optimizer is not None and saved.step:
                restore_optimizer(trainer.optimizer, saved.optimizer)
        return cls(document, trainer, corpus, file, str(root))

    def describe(self) -> list[str]:
        """What is about to happen, a line each."""
        plan, train = self.trainer.model.plan, self.document.train
        lines = [
            f"{plan.parameters:,} parameters on {self.trainer.device}; corpus {self.corpus.name} "
            f"({len(self.corpus.train):,} bytes to train on, {len(self.corpus.held_out):,} held out)",
            f"steps {self.trainer.step} to {self.trainer.steps}, {train.batch} x {self.trainer.context} tokens each",
        ]
        if self.trainer.device.type != "cpu":
            self.trainer.prepare()
            lines.append(f"{self.trainer.step_mode} steps: {self.trainer.step_reason}")
        return [*lines, *(f"warning: {warning}" for warning in self.corpus.warnings)]

    def carry_out(self, on_step: Callable[[Progress], None] | None, save_every: int) -> TrainResult:
        """Train to the end, saving on the way, and score.

        Raises:
            DiagnosticError: the loss diverged (EVO521); the last checkpoint stays.
        """
        trainer, last = self.trainer, Progress(self.trainer.step, self.trainer.steps, float("nan"), 0, 0.0)
        tokens, seconds = 0, 0.0

        def note(progress: Progress) -> None:
            nonlocal last
            last = replace(progress, tokens=tokens + progress.tokens, seconds=seconds + progress.seconds)
            if on_step is not None:
                on_step(last)

        try:
            while trainer.step < trainer.steps:
                trainer.run(until=trainer.step + save_every - trainer.step % save_every, on_step=note)
                tokens, seconds = last.tokens, last.seconds
                self.save()
        except DivergedError as error:
            raise _came_to_nothing(str(error)) from None
        except KeyboardInterrupt:
            if trainer.is_whole:
                self.save()
            raise
        return self._result(last)

    def save(self) -> None:
        """Write the checkpoint as of now."""
        trainer = self.trainer
        weights = {path: parameter.detach() for path, parameter in trainer.model.named_parameters()}
        state = trainer.optimizer.state_dict()
        checkpoint = Checkpoint(
            self.document, weights, trainer.step, trainer.steps, self.corpus.digest, state, self.root
        )
        save_checkpoint(self.file, checkpoint)

    def _result(self, last: Progress) -> TrainResult:
        trainer = self.trainer
        precision = self.document.train.precision
        score = bits_per_byte(trainer.model, self.corpus, trainer.context, tokens=HELD_OUT_TOKENS, precision=precision)
        if not math.isfinite(score):
            raise _came_to_nothing(f"the held-out score is {score}")
        return TrainResult(
            content_hash=content_hash(self.document),
            step=trainer.step,
            train_loss=last.loss,
            bits_per_byte=score,
            tokens_per_second=last.tokens_per_second,
            parameters=trainer.model.plan.parameters,
            device=str(trainer.device),
            corpus_digest=self.corpus.digest,
            checkpoint=str(self.file),
        )


def _came_to_nothing(message: str) -> DiagnosticError:
    help = "lower train.optimizer.lr, or raise the warm-up"
    return DiagnosticError([Diagnostic("EVO521", message, None, help)])


def read_corpus(document: Document, root: Path) -> Corpus:
    """The text a document trains on. Raises DiagnosticError (EVO500)."""
    try:
        return load_corpus(document.train.task.corpus, root)  # type: ignore[attr-defined]
    except CorpusError as error:
        raise DiagnosticError([Diagnostic("EVO500", error.message, None, error.help)]) from None


def require_windows(corpus: Corpus, document: Document) -> None:
    """Raise DiagnosticError (EVO501) unless both sides of the text hold a window of the training context."""
    context = document.train.context or document.organism.context
    for side, text in (("training", corpus.train), ("held-out", corpus.held_out)):
        if len(text) <= context:
            message = f"corpus '{corpus.name}' has {len(text):,} {side} bytes, too few for windows of {context:,}"
            help = "shorten train.context, or give more text"
            raise DiagnosticError([Diagnostic("EVO501", message, None, help)])


def _require_same(saved: Checkpoint, document: Document, corpus: Corpus) -> None:
    if content_hash(saved.document) != content_hash(document):
        message = "the checkpoint was made from another document"
        raise DiagnosticError([Diagnostic("EVO603", message, None, "train it without --resume into another --out")])
    if saved.corpus_digest != corpus.digest:
        raise DiagnosticError([Diagnostic("EVO603", f"corpus '{corpus.name}' is no longer the text it was trained on")])
