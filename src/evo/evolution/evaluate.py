"""The evaluation of one candidate: a pure function of its task, run by an engine in this or another process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from evo.archive.snapshot.blob import to_bytes
from evo.archive.snapshot.encode import encode
from evo.base.streams import Stream
from evo.compiler.organism import Organism
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.compiler.transplant import Inheritance, transplant
from evo.dsl.document import Document, parse
from evo.engines.jobs import Outcome
from evo.evolution.operators.base import Origins
from evo.tasks import base as tasks
from evo.training.behaviour import behaviour
from evo.training.loop import BudgetError, DivergedError
from evo.training.moments import InputMoments
from evo.training.score import HELD_OUT_TOKENS, held_out_bits, held_out_scores
from evo.training.setup import LeakError, make_trainer

FUNCTION = "evo.evolution.evaluate:evaluate"
SNAPSHOT_TOKENS = 8_192
"""Held-out bytes on which the loss of a snapshot is measured."""
MOMENT_TOKENS = 4_096


@dataclass(frozen=True)
class Task:
    """All that an evaluation depends on.

    document: canonical YAML. root: the folder that relative corpus paths start from. parents: weights of the parents
    as safetensors, or nothing for a fresh start. kernels: the backend asked for; a candidate it cannot run fails.
    origins: see `Proposal`. steps: overrides the document's. offset:
    steps its ancestry has trained, so that it reads on. tolerance: of the snapshot; None makes none.
    """

    document: str
    root: str
    device: str = "cpu"
    kernels: str = "auto"
    parents: tuple[bytes, ...] = ()
    origins: Origins = ()
    steps: int | None = None
    offset: int = 0
    max_seconds: float | None = None
    tolerance: float | None = 0.01
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What was measured, or why nothing could be.

    cause: empty, or leak, diverged, timeout, memory, error, crash. train_loss in nats per byte. inherited: the share of
    its parameters that came from parents. snapshot_increase: of the loss on held-out text by restoring, relative.
    """

    cause: str = ""
    message: str = ""
    bits_per_byte: float = float("nan")
    train_loss: float = float("nan")
    measures: tuple[float, ...] = ()
    gradient_relevance: float = 0.0
    inherited: float = 0.0
    snapshot: bytes = b""
    snapshot_bytes: int = 0
    snapshot_increase: float = 0.0
    fp32_bytes: int = 0


def evaluate(task: Task) -> Evaluation:
    """Inherit, check causality, train, score, probe, and take a snapshot. Expected failures come back as a cause."""
    document = parse(task.document).document
    plan = resolve(document.organism)
    learned = tasks.open_task(document.train.task, Path(task.root))
    learned.require(document.context)
    base, inheritance = starting_weights(plan, document, [load_tensors(blob) for blob in task.parents], task.origins)
    try:
        trainer = make_trainer(
            document, learned, task.device, base, kernels=task.kernels, steps=task.steps, offset=task.offset
        )
        loss = trainer.run(max_seconds=task.max_seconds)
    except LeakError as error:
        return Evaluation("leak", f"{error} (values {error.leak.in_values:.1e})", inherited=inheritance.share)
    except DivergedError as error:
        return Evaluation("diverged", str(error), inherited=inheritance.share)
    except BudgetError as error:
        return Evaluation("timeout", str(error), inherited=inheritance.share)
    return _measure(task, document, trainer.model, learned, base, inheritance, loss)


def outcome_of(outcome: Outcome) -> Evaluation:
    """What a job gave, or the cause of its failure."""
    if outcome.failure is not None:
        return Evaluation(outcome.failure.cause, outcome.failure.message)
    assert isinstance(outcome.value, Evaluation)
    return outcome.value


def _measure(
    task: Task,
    document: Document,
    model: Organism,
    learned: tasks.Task,
    base: dict[str, Tensor],
    inheritance: Inheritance,
    loss: float,
) -> Evaluation:
    train, context = document.train, document.context
    scores = held_out_scores(model, learned, context, tokens=HELD_OUT_TOKENS, precision=train.precision)
    score = scores[learned.primary.name]
    if not math.isfinite(score):
        return Evaluation("diverged", "the held-out score is not a finite number", inherited=inheritance.share)
    seen = behaviour(model, learned, context, train.seed)
    snapshot, increase, fp32_bytes = b"", 0.0, 0
    if task.tolerance is not None:
        snapshot, increase, fp32_bytes = take_snapshot(task, model, learned, context, base)
    return Evaluation(
        bits_per_byte=score,
        train_loss=loss,
        measures=seen.measures.vector(),
        gradient_relevance=seen.gradient_relevance,
        inherited=inheritance.share,
        snapshot=snapshot,
        snapshot_bytes=len(snapshot),
        snapshot_increase=increase,
        fp32_bytes=fp32_bytes,
    )


def take_snapshot(
    task: Task, model: Organism, learned: tasks.Task, context: int, base: dict[str, Tensor]
) -> tuple[bytes, float, int]:
    """The smallest snapshot within the tolerance: its bytes, the measured increase of the loss, the size in fp32."""
    assert task.tolerance is not None
    trained = {path: p.detach().cpu().clone() for path, p in model.named_parameters()}

    def loss_of(weights: dict[str, Tensor]) -> float:
        load_into(model, weights)
        return held_out_bits(model, learned, context, SNAPSHOT_TOKENS)

    snapshot = encode(
        base, trained, input_moments(model, learned, context), loss_of, task.tolerance, dict(task.metadata)
    )
    load_into(model, trained)
    return to_bytes(snapshot), snapshot.increase, snapshot.fp32_bytes


@torch.no_grad()
def input_moments(model: Organism, learned: tasks.Task, context: int) -> dict[str, Tensor]:
    """Second moments of the inputs of every matrix on some training text: what a snapshot keeps reaches the children,
    so held-out text may judge it but not shape it."""
    device = next(model.parameters()).device
    rows = max(1, MOMENT_TOKENS // context)
    batch = learned.batch(0, rows, context, Stream(0).child("moments")).to(device)
    with InputMoments(model) as moments:
        model(batch.inputs_BT)
    return moments.means()


def starting_weights(
    plan: Plan, document: Document, parents: list[dict[str, Tensor]], origins: Origins
) -> tuple[dict[str, Tensor], Inheritance]:
    """What a candidate starts from: its parents' weights where paths and shapes allow, fresh draws elsewhere."""
    named = {path: _origin(path, parents, origins) for path in plan.weights} if parents else {}
    return transplant(plan, document.train.seed, {path: t for path, t in named.items() if t is not None})


def _origin(path: str, parents: list[dict[str, Tensor]], origins: Origins) -> Tensor | None:
    """The parents' tensor for a path: by the longest renamed prefix, or parent 0's own."""
    renamed = [row for row in origins if path.startswith(row[0])]
    if not renamed:
        return parents[0].get(path)
    prefix, parent, source = max(renamed, key=lambda row: len(row[0]))
    return parents[parent].get(source + path.removeprefix(prefix))


def load_into(model: Organism, weights: Mapping[str, Tensor]) -> None:
    """Copy weights by path into a model."""
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.copy_(weights[path])


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as one safetensors blob, to travel to a worker."""
    return save_tensors({path: tensor.contiguous() for path, tensor in weights.items()})
