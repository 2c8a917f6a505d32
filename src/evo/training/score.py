"""Held-out scores: what the task measures on what no candidate trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.tasks.base import Predict, Task
from evo.training.device import autocast

Note = Callable[[Tensor, Tensor], None]
"""Takes tokens (B, T) and their logits (B, T, V)."""
HELD_OUT_TOKENS = 32_768
"""How many held-out targets a score covers unless asked otherwise."""


@dataclass(frozen=True)
class Scored:
    """A batch that counts in a score. tokens_BT: int64, where the task left them; logits_BTV: what the model made of
    them, on its device; precision: in which arithmetic."""

    tokens_BT: Tensor
    logits_BTV: Tensor
    precision: str

    def certainty_BT(self) -> Tensor:
        """The largest log-probability of each output, float32 on the CPU."""
        return (self.logits_BTV.float().amax(-1) - self.logits_BTV.float().logsumexp(-1)).cpu()


@dataclass(frozen=True)
class HeldOut:
    """A model's scores by name, the primary one first, and the first batch that they were taken from."""

    scores: dict[str, float]
    first: Scored


def held_out_scores(
    model: Organism, task: Task, context: int, *, tokens: int = HELD_OUT_TOKENS, precision: str = "auto"
) -> dict[str, float]:
    """The task's scores of a model by name, its primary one first; not finite where the model's logits are not.

    Behind them what blocks tell of themselves (`Flow.tell`), a mean over layers and batches each.

    context: window length in tokens. tokens: about how many targets are scored.
    """
    return score_held_out(model, task, context, tokens=tokens, precision=precision).scores


@torch.no_grad()
def score_held_out(
    model: Organism,
    task: Task,
    context: int,
    *,
    tokens: int = HELD_OUT_TOKENS,
    precision: str = "auto",
    note: Note | None = None,
) -> HeldOut:
    """The same as `held_out_scores`, with the first batch. note: is shown all tokens and their logits."""
    figures, first = dict[str, list[Tensor]](), list[Scored]()
    predict = predicting(model, precision, figures)

    def noting(tokens_BT: Tensor) -> Tensor:
        logits_BTV = predict(tokens_BT)
        if not first:
            first.append(Scored(tokens_BT, logits_BTV, precision))
        if note is not None:
            note(tokens_BT, logits_BTV)
        return logits_BTV

    scores = task.score(noting, context, tokens)
    told = {name: float(torch.stack(found).mean()) for name, found in figures.items()}
    return HeldOut(scores | told, first[0])


def predicting(model: Organism, precision: str, figures: dict[str, list[Tensor]] | None = None) -> Predict:
    """The model as a function of tokens on any device. figures: filled with what blocks tell of themselves."""
    device = next(model.parameters()).device

    def predict(tokens_BT: Tensor) -> Tensor:
        with autocast(device, precision):
            return model(tokens_BT.to(device), Flow(figures=figures))

    return predict
