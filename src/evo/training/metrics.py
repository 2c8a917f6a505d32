"""`metrics.jsonl`: what a training run measured, a line a look, for plots and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic
from evo.base.rundirs import are_metrics
from evo.blocks.companion import Event
from evo.training.loop import Progress

MOST_LINES = 2000
"""Of training steps, evenly spread over a run; each held-out score has one more."""


@dataclass(frozen=True)
class Metrics:
    """A file of JSON objects, one a line, each with its `step`.

    Lines of training have `loss` (the task's, nats per target), `rate` (share of the peak learning rate),
    `gradient_norm` (before clipping; null where nothing is clipped), `tokens` (read by all steps so far),
    `tokens_per_second` (since it was begun or gone on with) and, by name, `auxiliary` losses. Lines of scores have
    `held_out`, by name. Lines of `events` tell what lives beside the steps did: births, deaths, looks. What is not
    finite is null.
    """

    file: Path
    steps: int
    step_tokens: int

    def begin(self, step: int) -> None:
        """Keep what was measured up to a step, from which the run goes on; of a new run, nothing.

        At its end it is scored again, so the score that is there goes.
        """
        self.require_own()
        text = self.file.read_bytes().decode(errors="replace") if self.file.exists() else ""
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and self._stays(line, step)]
        write_atomic(self.file, "".join(kept) if step else "")

    def _stays(self, line: str, step: int) -> bool:
        at, is_score = _step_of(line)
        return at < step or (at == step and not (is_score and step >= self.steps))

    def require_own(self) -> None:
        """Raise DiagnosticError (EVO601) if a file of that name is there that no training run wrote."""
        if self.file.exists() and not are_metrics(self.file):
            help = "--out names another folder"
            raise DiagnosticError([Diagnostic("EVO601", f"{self.file} exists, and evo did not write it", None, help)])

    def note(self, progress: Progress) -> None:
        """Write a line, unless there are enough; what a companion did is always written."""
        self.note_events(progress.step, progress.events)
        if progress.step % max(1, self.steps // MOST_LINES) and progress.step != self.steps:
            return
        row: dict[str, Any] = {
            "step": progress.step,
            "loss": progress.loss,
            "rate": progress.rate,
            "gradient_norm": progress.gradient_norm,
            "tokens": progress.step * self.step_tokens,
            "tokens_per_second": round(progress.tokens_per_second, 1),
        }
        if progress.auxiliary:
            row["auxiliary"] = dict(progress.auxiliary)
        self._append(row)

    def note_events(self, step: int, events: Sequence[Event]) -> None:
        """Write what a companion did, if it did something."""
        if events:
            self._append({"step": step, "events": [dict(event) for event in events]})

    def score(self, step: int, scores: Mapping[str, float]) -> None:
        """Write held-out scores."""
        self._append({"step": step, "held_out": dict(scores)})

    def _append(self, row: Mapping[str, Any]) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(_finite(row)) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: str) -> tuple[float, bool]:
    """The step of a line, endless where that cannot be read, and whether it is one of scores."""
    try:
        row = json.loads(line)
        return float(row["step"]), "held_out" in row
    except (ValueError, KeyError, TypeError):
        return math.inf, False
