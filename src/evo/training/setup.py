"""From a document and its starting weights to a trainer whose model does not leak."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.compute import steps_of
from evo.compiler.kernels import use_kernels
from evo.compiler.organism import Organism
from evo.compiler.promises import require_promises
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash
from evo.dsl.document import Document
from evo.tasks.base import Task
from evo.tasks.held_out import BATCH_TOKENS
from evo.training.causality import Leak, find_leak
from evo.training.loop import Trainer


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
    offset: int = 0,
) -> Trainer:
    """A trainer of a document's organism at step 0.

    Args:
        weights: what the organism starts from, by path; the draws of the document's seed by default.
        kernels: the backend asked for.
        steps, offset: see `Trainer`; the document's steps by default.

    Raises:
        DiagnosticError: kernels that cannot run a layer (EVO511), a block that breaks its plan's promises (EVO512).
        LeakError: an output depends on a later input, and the task needs that none does.
    """
    train = document.train
    model = build(resolve(document.organism), train.seed, device, weights)
    require_promises(model)
    use_kernels(model, kernels, batch=train.batch, tokens=document.context)
    require_causal(model, document)
    return Trainer(model, task, train, steps=steps_of(document) if steps is None else steps, offset=offset)


def require_causal(model: Organism, document: Document, scored_by: Task | None = None) -> None:
    """Probe a model as its document trains it, unless its task does not need that.

    scored_by: the task, once the model is trained: the weights are probed as they are, and on the text that is scored.

    Raises:
        LeakError: an output depends on a later input or on another row of its batch.
    """
    leak = _leak(model, document, scored_by, every_cut=False)
    if leak is not None:
        raise LeakError(leak)


def is_suspicious(model: Organism, document: Document, task: Task, value: float) -> bool:
    """Whether a primary score is better than is plausible for the task; the model is then probed at every cut.

    Raises:
        LeakError: that probe found one.
    """
    if not document.train.task.needs_causal or document.train.task.is_plausible(task, value):
        return False
    leak = _leak(model, document, task, every_cut=True)
    if leak is not None:
        raise LeakError(leak)
    return True


def _leak(model: Organism, document: Document, scored_by: Task | None, *, every_cut: bool) -> Leak | None:
    train, context = document.train, document.context
    if not train.task.needs_causal:
        return None
    when, text_BT = "before", None
    if scored_by is not None:
        rows = max(1, BATCH_TOKENS // context)
        when, text_BT = "after", next(iter(scored_by.held_out(context, rows * context, rows))).inputs_BT
    return find_leak(
        model,
        Stream(train.seed).child("causality", content_hash(document), when),
        batch=train.batch,
        tokens=context,
        precision=train.precision,
        text_BT=text_BT,
        is_moved=scored_by is None,
        every_cut=every_cut,
    )
