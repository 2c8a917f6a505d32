"""What the causality probe costs: its seconds before and after training beside those of one whole candidate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from evo.dsl.canonical import to_yaml
from evo.dsl.document import Document, parse
from evo.engines.jobs import one_thread
from evo.evolution.evaluate import TrialJob, evaluate
from evo.tasks.base import open_task
from evo.training.score import HELD_OUT_TOKENS, score_held_out
from evo.training.setup import make_trainer, require_causal

SHAPES = {
    "cpu": {
        "width 128, 4 layers of attention": ("128, context: 128", "{kind: attention, heads: 4}", "4, steps: 80"),
        "width 128, 4 gated delta layers": ("128, context: 128", "{kind: recurrence, heads: 4}", "4, steps: 80"),
    },
    "cuda": {
        "width 256, 4 layers of attention": ("256, context: 256", "{kind: attention, heads: 4}", "32, steps: 200"),
        "the same, trained longer": ("256, context: 256", "{kind: attention, heads: 4}", "32, steps: 1000"),
        "width 256, 4 gated delta layers": ("256, context: 256", "{kind: recurrence, heads: 4}", "32, steps: 200"),
    },
}
"""By device: of each candidate its width and context, its mixer, and its batch and steps."""


@dataclass(frozen=True)
class Row:
    """Medians over rounds, in seconds of wall time; share: of the probes in the whole candidate, in percent."""

    name: str
    steps: int
    candidate: float
    before: float
    after: float
    share: float


def measure(device: str, rounds: int = 3) -> list[Row]:
    """Evaluate each candidate of a device, with everything a search does to one, and probe it apart from that."""
    with one_thread():
        return [_row(name, _document(*shape), device, rounds) for name, shape in SHAPES[device].items()]


def cells(rows: list[Row]) -> list[tuple[str, ...]]:
    """The table, its heading first."""
    head = ("candidate", "steps", "whole, s", "probe before, ms", "probe after, ms", "share, %")
    return [
        head,
        *(
            (
                r.name,
                f"{r.steps:,}",
                f"{r.candidate:.2f}",
                f"{1e3 * r.before:.0f}",
                f"{1e3 * r.after:.0f}",
                f"{r.share:.1f}",
            )
            for r in rows
        ),
    ]


def _document(size: str, mixer: str, train: str) -> Document:
    stage = f"{{name: body, repeat: 4, mix: {mixer}}}"
    return parse(f"evo: 1\norganism: {{width: {size}, stages: [{stage}]}}\ntrain: {{batch: {train}}}\n").document


def _row(name: str, document: Document, device: str, rounds: int) -> Row:
    job = TrialJob(to_yaml(document), ".", device=device)
    task = open_task(document.train.task, Path("."))
    trainer = make_trainer(document, task, device)
    trainer.run(until=1)
    first = score_held_out(
        trainer.model, task, document.context, tokens=HELD_OUT_TOKENS, precision=document.train.precision
    ).first
    ways: list[Callable[[], object]] = [
        lambda: evaluate(job),
        lambda: require_causal(trainer, document),
        lambda: require_causal(trainer, document, first),
    ]
    times = [[_seconds(way, device) for way in ways] for _ in range(rounds + 1)][
        1:
    ]  # kernels are compiled in the first
    whole, before, after = (statistics.median(column) for column in zip(*times, strict=True))
    share = 100 * statistics.median((row[1] + row[2]) / row[0] for row in times)
    return Row(name, document.train.steps, whole, before, after, share)


def _seconds(way: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    way()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
