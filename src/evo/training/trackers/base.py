"""What a tracker is told, and how trackers are made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.blocks.companion import Event
from evo.dsl.tracker import TrackerSpec
from evo.engines.jobs import find_function
from evo.training.loop import Progress

NAMES = ("step", "slot")
"""Numbers of an event that say where it was, and measure nothing."""


@dataclass(frozen=True)
class Tracked:
    """A training or a search. folder: where its checkpoint or run goes. document: canonical data."""

    folder: Path
    name: str
    document: Mapping[str, Any]


class Tracker(Protocol):
    """Takes finite numbers by name, step by step."""

    def note(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


@contextmanager
def make_trackers(specs: Sequence[TrackerSpec], tracked: Tracked) -> Iterator[Trackers]:
    """Trackers that are closed at the end of the block, whatever ends it.

    Raises:
        DiagnosticError: a package that is not installed (EVO525).
    """
    with ExitStack() as stack:
        made: list[Tracker] = []
        for spec in specs:
            made.append(_made(spec, tracked))
            stack.callback(made[-1].close)
        yield Trackers(tuple(made))


def _made(spec: TrackerSpec, tracked: Tracked) -> Tracker:
    try:
        return find_function(spec.builder)(spec, tracked)
    except ImportError as error:
        message = f"the tracker '{spec.kind}' needs a package that is not installed: {error}"
        help = f"pip install {spec.package}" if spec.package else None
        raise DiagnosticError([Diagnostic("EVO525", message, None, help)]) from None


@dataclass(frozen=True)
class Trackers:
    """All of a training's or a search's, told at once."""

    made: tuple[Tracker, ...] = ()

    def step(self, progress: Progress) -> None:
        """Tell of a training step, and before it of what lived since the last."""
        self.events(progress.events)
        values = {
            "loss": progress.loss,
            "rate": progress.rate,
            "gradient_norm": math.nan if progress.gradient_norm is None else progress.gradient_norm,
            "tokens_per_second": progress.tokens_per_second,
            **{f"auxiliary/{name}": value for name, value in progress.auxiliary.items()},
        }
        self.note(progress.step, values)

    def events(self, events: Sequence[Event]) -> None:
        """Tell of what a companion did: by step, how many events of each kind there were, and their numbers."""
        by_step: dict[int, dict[str, float]] = {}
        for event in events:
            values = by_step.setdefault(event["step"], {})
            kind, pool = event["event"], event.get("pool")
            place = f"/{pool}" if pool else ""
            values[f"{kind}/count"] = values.get(f"{kind}/count", 0.0) + 1.0
            numbers = {name: n for name, n in event.items() if isinstance(n, (int, float)) and name not in NAMES}
            values |= {f"{kind}/{name}{place}": float(number) for name, number in numbers.items()}
        for step, values in sorted(by_step.items()):
            self.note(step, values)

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Tell of held-out scores."""
        self.note(step, {f"held_out/{name}": value for name, value in scores.items()})

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Tell of those values that are finite."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for tracker in self.made:
            tracker.note(step, finite)
