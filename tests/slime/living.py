"""Small organisms with pools, and their trainings."""

from __future__ import annotations

from typing import Any

from tiny_models import document, task

from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.document import Document
from evo.slime.lifecycle import Lifecycle
from evo.training.loop import Trainer

LIFE: dict[str, Any] = {
    "kind": "annealed", "every": 2, "cull_every": 4, "warmup": 2, "gentle": 6, "cells": 16, "least": 1,
    "cull": 0.5, "mutation": 0.3,
}  # fmt: skip
POOL: dict[str, Any] = {"kind": "pool", "slots": 4, "alive": 3}


def living(
    pool: dict[str, Any] | None = None,
    steps: int = 10,
    train: dict[str, Any] | None = None,
    layers: int = 1,
    **life: Any,
) -> Document:
    """A document whose layers have a pool each, which lives."""
    settings = {"steps": steps, "life": {**LIFE, **life}, **(train or {})}
    return document({**POOL, **(pool or {})}, train=settings, stage={"repeat": layers})


def trainer(made: Document, mode: str = "eager", device: str = "cpu") -> Trainer:
    """A trainer of it at step 0."""
    model = build(resolve(made.organism), made.train.seed).to(device)
    return Trainer(model, task(), made.train, mode=mode)


def life_of(training: Trainer) -> Lifecycle:
    """The life of a training."""
    assert isinstance(training.companion, Lifecycle)
    return training.companion


def run(training: Trainer, until: int | None = None) -> list[dict[str, Any]]:
    """Train, and tell what happened."""
    events: list[dict[str, Any]] = []
    training.run(until, on_step=lambda progress: events.extend(map(dict, progress.events)))
    return events


def kinds(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The events of one kind."""
    return [event for event in events if event["event"] == kind]
