"""Held-out scores: what the task measures on what no candidate trains on."""

from __future__ import annotations

import torch
from torch import Tensor

from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.tasks.base import Predict, Task
from evo.tasks.held_out import BATCH_TOKENS, bits_per_target
from evo.training.device import autocast

HELD_OUT_TOKENS = 32_768
"""How many held-out targets a score covers unless asked otherwise."""


@torch.no_grad()
def held_out_scores(
    model: Organism, task: Task, context: int, *, tokens: int = HELD_OUT_TOKENS, precision: str = "auto"
) -> dict[str, float]:
    """The task's scores of a model by name, its primary one first; not finite where the model's logits are not.

    Behind them what blocks tell of themselves (`Flow.tell`), a mean over layers and batches each.

    context: window length in tokens. tokens: about how many targets are scored.
    """
    figures: dict[str, list[Tensor]] = {}
    scores = task.score(_predict(model, precision, figures), context, tokens)
    return scores | {name: float(torch.stack(found).mean()) for name, found in figures.items()}


@torch.no_grad()
def held_out_bits(model: Organism, task: Task, context: int, tokens: int) -> float:
    """The mean of -log2 p over about `tokens` held-out targets: what restored weights are judged by, for any task."""
    batches = task.held_out(context, tokens, max(1, BATCH_TOKENS // context))
    return bits_per_target(_predict(model, "auto"), batches)


def _predict(model: Organism, precision: str, figures: dict[str, list[Tensor]] | None = None) -> Predict:
    device = next(model.parameters()).device

    def predict(tokens_BT: Tensor) -> Tensor:
        with autocast(device, precision):
            return model(tokens_BT.to(device), Flow(figures=figures))

    return predict
