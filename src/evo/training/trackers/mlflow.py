"""MLflow: one of its runs a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evo.dsl.yaml import write
from evo.training.trackers.base import Tracked
from evo.training.trackers.spec import MlflowSpec


class _Run:
    def __init__(self, mlflow: Any) -> None:
        self._mlflow = mlflow

    def note(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def begin(spec: MlflowSpec, tracked: Tracked) -> _Run:
    """A run that has begun."""
    import mlflow  # pyright: ignore[reportMissingImports]

    mlflow.set_experiment(spec.experiment)
    mlflow.start_run(run_name=tracked.name)
    mlflow.log_text(write(dict(tracked.document)), "document.yaml")
    return _Run(mlflow)
