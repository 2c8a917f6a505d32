"""Zero-cost proxies: one pass forward and backward through the untrained organism, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.compiler.build import build
from evo.compiler.organism import Organism
from evo.dsl.document import Document
from evo.dsl.surrogate import SurrogateSpec
from evo.engines.inline import run_here
from evo.engines.jobs import Job
from evo.evolution.documents import document_of, plan_of
from evo.evolution.settings import Settings
from evo.evolution.surrogates.base import Known
from evo.tasks.base import open_task

MOST_ROWS = 8
"""Sequences of the batch."""


class Proxy:
    """A number of each document by itself; what fails to give one is thought worst. Learns nothing."""

    function: ClassVar[str]
    """`module:name` of what gives the number of (document, root)."""

    def __init__(self, spec: SurrogateSpec, settings: Settings) -> None:
        del spec
        self.root = settings.root

    def guess(self, documents: Sequence[str], known: Known, pending: Sequence[str]) -> list[float] | None:
        """See `Surrogate.guess`."""
        del known, pending
        outcomes = [run_here(Job(str(place), self.function, (text, self.root))) for place, text in enumerate(documents)]
        numbers = [-math.inf if outcome.failure else float(outcome.value) for outcome in outcomes]
        return [number if math.isfinite(number) else -math.inf for number in numbers]


class GradientNorm(Proxy):
    """The logarithm of the norm of the first batch's gradient."""

    function: ClassVar[str] = "evo.evolution.surrogates.proxies.surrogate:gradient_norm"


class Synflow(Proxy):
    """The logarithm of the synaptic flow."""

    function: ClassVar[str] = "evo.evolution.surrogates.proxies.surrogate:synflow"


def gradient_norm(asked: tuple[str, str]) -> float:
    """log |d loss / d weights| of the draws of a document's seed. asked: canonical YAML, and the root of its texts."""
    document, model = _built(asked[0])
    task, rows = open_task(document.train.task, Path(asked[1])), min(document.train.batch, MOST_ROWS)
    batch = task.batch(0, rows, document.context, Stream(document.train.seed).child("proxy"))
    gradients = _gradients(model, model.loss(batch.inputs_BT, batch.targets_BT, batch.weights_BT))
    return math.log(math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients)))


def synflow(asked: tuple[str, str]) -> float:
    """log of the sum of |w * d R / d w|, R the sum of the logits where every weight is its absolute value and all
    tokens are one and the same. asked: as of `gradient_norm`; no text is read."""
    document, model = _built(asked[0])
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    gradients = _gradients(model, model(torch.zeros(1, document.context, dtype=torch.int64)).sum())
    flows = (
        float((w.detach().double() * g.double()).abs().sum())
        for w, g in zip(model.parameters(), gradients, strict=True)
    )
    return math.log(sum(flows))


def _built(text: str) -> tuple[Document, Organism]:
    document = document_of(text)
    return document, build(plan_of(text), document.train.seed)


def _gradients(model: Organism, number: Tensor) -> list[Tensor]:
    """By weight, zero where the number does not depend on it."""
    weights = list(model.parameters())
    found = torch.autograd.grad(number, weights, allow_unused=True)
    return [torch.zeros_like(w) if gradient is None else gradient for w, gradient in zip(weights, found, strict=True)]
