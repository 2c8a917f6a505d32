"""Service-level objectives over what a training measured: who kept them how often, and what is left of the budget.

Of the lines that hold an objective's metric, a share of at least `target` must keep its limits; the share that may miss
them is its error budget (Beyer et al. 2016, "Site Reliability Engineering", chapter 4).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.dsl.settings import read_settings
from evo.dsl.spec import AsTuple, ListOf, Spec


class Objective(Spec):
    """One objective. metric: a key of a line, inner ones joined by dots (`held_out.bits_per_byte`, `look.pool_size`).

    at_least, at_most: its limits, one of them at least. target: the share of lines that must keep them.
    """

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    target: Annotated[float, Field(gt=0, le=1)] = 0.99

    def holds(self, value: float) -> bool:
        """Whether a value keeps the limits; what is no number does not."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high

    def __str__(self) -> str:
        limits = [(">=", self.at_least), ("<=", self.at_most)]
        return f"{self.metric} {' and '.join(f'{sign} {limit:g}' for sign, limit in limits if limit is not None)}"


class Objectives(Spec):
    """A file of them."""

    objectives: Annotated[tuple[Objective, ...], AsTuple, ListOf(), Field(min_length=1)]


@dataclass(frozen=True)
class Kept:
    """How an objective was kept. count: lines that hold its metric. misses: of them, those outside its limits.

    budget: misses that the target allows. is_kept: whether there were no more, and a line at all.
    """

    objective: Objective
    count: int
    misses: int

    @property
    def share(self) -> float:
        """Of the lines, those within the limits; NaN without lines."""
        return 1.0 - self.misses / self.count if self.count else math.nan

    @property
    def budget(self) -> float:
        """How many lines may miss."""
        return (1.0 - self.objective.target) * self.count

    @property
    def is_kept(self) -> bool:
        """Whether the budget was enough."""
        return self.count > 0 and self.misses <= self.budget + 1e-9


def load_objectives(path: Path) -> tuple[Objective, ...]:
    """The objectives of a YAML file. Raises DiagnosticError for one that does not fit."""
    found = read_settings(Objectives, path).objectives
    bare = [o.metric for o in found if o.at_least is None and o.at_most is None]
    if bare:
        message = f"{path}: the objective of '{bare[0]}' has no limit"
        raise DiagnosticError([Diagnostic("EVO203", message, None, "give it at_least or at_most")])
    return found


def judge(objectives: Iterable[Objective], lines: Iterable[str]) -> list[Kept]:
    """How each objective was kept by lines of `metrics.jsonl`; a line that was cut short or damaged counts for none."""
    rows = [dict(_flat(row)) for line in lines for row in _rows(line)]
    found: list[Kept] = []
    for objective in objectives:
        values = [row[objective.metric] for row in rows if objective.metric in row]
        found.append(Kept(objective, len(values), sum(not objective.holds(value) for value in values)))
    return found


def _rows(line: str) -> Iterator[dict[str, Any]]:
    """A line as records: its own, or one an event, under the event's name; none where training did not write it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return
    if not isinstance(row, dict):
        return
    told = cast("dict[str, Any]", row)
    events = told.pop("events", ())
    yield told
    if isinstance(events, list):
        known = (event for event in cast("list[Any]", events) if isinstance(event, dict) and "event" in event)
        yield from ({str(event["event"]): event} for event in known)


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every number by its dotted name; null is NaN."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, int | float):
            yield prefix + name, math.nan if value is None else float(value)
