"""How many generations a run has: those it was begun for, and what extensions made of them.

Cooling follows the number of generations, so generations that were made for another number keep its temperatures: a
run that is resumed replays them as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings

EXTENSIONS = "extensions"
"""The fact in the journal of a run that was extended: rows of first generation and number of generations."""


@dataclass(frozen=True)
class Span:
    """From generation `first` on, the run is one of so many generations."""

    first: int
    generations: int


def spans(journal: Journal, generations: int) -> list[Span]:
    """The spans of a run, the first from generation 0 on. generations: of a run that was never extended."""
    rows: list[list[int]] | None = journal.fact(EXTENSIONS)
    return [Span(0, generations)] if rows is None else [Span(first, number) for first, number in rows]


def generations_at(journal: Journal, generation: int, generations: int) -> int:
    """For how many generations the run was meant when this one was made."""
    return next(s.generations for s in reversed(spans(journal, generations)) if s.first <= generation)


def extend(journal: Journal, settings: Settings, generations: int) -> str | None:
    """Record that a run goes on to so many generations, and say what that means; None where that is nothing new.

    Raises:
        DiagnosticError: it was begun for more (EVO603).
    """
    known = spans(journal, settings.evolve.generations)
    before = known[-1].generations
    if generations == before:
        return None
    if generations < before:
        message = f"this run is one of {before} generations, and cannot become one of {generations}"
        raise DiagnosticError([Diagnostic("EVO603", message, None, "a run can be extended, not cut")])
    first = max((c.generation for c in journal.candidates()), default=-1) + 1
    rows: list[Any] = [[s.first, s.generations] for s in known if s.first < first]
    journal.set_fact(EXTENSIONS, [*rows, [first, generations]])
    step, cooling = max(0, first - 1), settings.evolve.cooling
    was, now = (cooling.temperature(min(step, number), number, []) for number in (before, generations))
    return (
        f"extended from {before} to {generations} generations: the schedule is recomputed from generation {first} on "
        f"(temperature {was:.3g} becomes {now:.3g}), so the result is not that of a run begun for {generations}"
    )
