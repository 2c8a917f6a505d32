"""From a document and its starting weights to a trainer whose model does not leak."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from evo.compiler.build import build
from evo.compiler.kernels import use_kernels
from evo.compiler.promises import require_promises
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.tasks.base import Task
from evo.training.causality import Leak, find_leak
from evo.training.loop import Trainer


class LeakError(Exception):
    """The model's outputs depend on later inputs, which its task forbids."""

    def __init__(self, leak: Leak) -> None:
        super().__init__(f"outputs before token {leak.cut} depend on later inputs")
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
        steps, offset: see `Trainer`.

    Raises:
        DiagnosticError: kernels that cannot run a layer (EVO511), a block that breaks its plan's promises (EVO512).
        LeakError: an output depends on a later input, and the task needs that none does.
    """
    train = document.train
    model = build(resolve(document.organism), train.seed, device, weights)
    require_promises(model)
    use_kernels(model, kernels, batch=train.batch, tokens=document.context)
    leak = find_leak(model) if train.task.needs_causal else None
    if leak is not None:
        raise LeakError(leak)
    return Trainer(model, task, train, steps=steps, offset=offset)
