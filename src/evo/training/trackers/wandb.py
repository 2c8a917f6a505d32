"""Weights & Biases: one of its runs a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evo.training.trackers.base import Tracked
from evo.training.trackers.spec import WandbSpec


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run

    def note(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def begin(spec: WandbSpec, tracked: Tracked) -> _Run:
    """A run that has begun."""
    import wandb  # pyright: ignore[reportMissingImports]

    config = dict(tracked.document)
    return _Run(wandb.init(project=spec.project, name=tracked.name, dir=str(tracked.folder), config=config))
