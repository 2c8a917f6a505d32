"""From a document and its starting weights to a trainer whose model does not leak, and to scores that no leak made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.compute import steps_of
from evo.compiler.kernels import use_kernels
from evo.compiler.promises import require_promises
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash
from evo.dsl.document import Document
from evo.dsl.schedules import Course
from evo.tasks.base import Task
from evo.training.causality import Leak, find_leak
from evo.training.loop import DivergedError, Trainer
from evo.training.score import Note, Scored, score_held_out


class LeakError(Exception):
    """The model's outputs depend on later inputs or on other rows, which its task forbids."""

    def __init__(self, leak: Leak) -> None:
        super().__init__(str(leak))
        self.leak = leak


def make_trainer(
    document: Document,
    task: Task,
    device: torch.device | str,
    weights: Mapping[str, Tensor] | None = None,
    *,
    kernels: str = "auto",
    steps: int | None = None,
    course: Course | None = None,
    offset: int = 0,
    mode: str = "auto",
) -> Trainer:
    """A trainer of a document's organism at step 0.

    Args:
        weights: what the organism starts from, by path; the draws of the document's seed by default.
        kernels: the backend asked for.
        steps, course, offset, mode: see `Trainer`; the document's steps by default.

    Raises:
        DiagnosticError: kernels that cannot run a layer (EVO511), a block that breaks its plan's promises (EVO512).
        LeakError: an output depends on a later input, and the task needs that none does.
    """
    train = document.train
    model = build(resolve(document.organism), train.seed, device, weights)
    require_promises(model)
    use_kernels(model, kernels, batch=train.batch, tokens=document.context)
    course = course or Course.of(steps_of(document) if steps is None else steps)
    trainer = Trainer(model, task, train, course=course, offset=offset, mode=mode)
    require_causal(trainer, document)
    return trainer


@dataclass(frozen=True)
class Verified:
    """Held-out scores by name, the primary one first, in which no leak was found.

    is_suspicious: the primary one is better than is plausible for the task.
    """

    scores: dict[str, float]
    is_suspicious: bool


def verified_scores(
    trainer: Trainer, document: Document, task: Task, tokens: int, note: Note | None = None
) -> Verified:
    """Score a trained model, and probe it as it is, on the text that was scored.

    tokens: about how many targets. note: is shown all scored tokens and their logits.

    Where the score is better than is plausible for the task, the probe asks about every position.

    Raises:
        DivergedError: the score is not a finite number.
        LeakError: an output depends on a later input or on another row of its batch.
    """
    precision = document.train.precision
    held_out = score_held_out(trainer.model, task, document.context, tokens=tokens, precision=precision, note=note)
    value = held_out.scores[task.primary.name]
    if not math.isfinite(value):
        raise DivergedError(f"the held-out score is {value}")
    require_causal(trainer, document, held_out.first)
    kind = document.train.task
    is_odd = kind.needs_causal and not kind.is_plausible(task, value)
    if is_odd:
        require_causal(trainer, document, held_out.first, every_cut=True)
    return Verified(held_out.scores, is_odd)


def require_causal(
    trainer: Trainer, document: Document, scored: Scored | None = None, *, every_cut: bool = False
) -> None:
    """Probe a trainer's model as its document trains it, unless its task does not need that.

    scored: what was scored, once the model is trained: the weights are probed as they are. every_cut: see `find_leak`.

    Raises:
        LeakError: an output depends on a later input or on another row of its batch.
    """
    train = document.train
    if not train.task.needs_causal:
        return
    trainer.prepare()
    leak = find_leak(
        trainer.model,
        Stream(train.seed).child("causality", content_hash(document), "before" if scored is None else "after"),
        batch=train.batch,
        tokens=document.context,
        precision=train.precision,
        scored=scored,
        every_cut=every_cut,
        flow=trainer.flow,
        given=train.task.tokens_given,
    )
    if leak is not None:
        raise LeakError(leak)
