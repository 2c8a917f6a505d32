"""Whoever watches a search: a live table, a test, nobody."""

from __future__ import annotations

from typing import Any, Protocol

from evo.evolution.evaluate import Evaluation
from evo.evolution.journal import Candidate


class Observer(Protocol):
    """Whoever watches a search."""

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None:
        """A generation's candidates are known."""
        ...

    def evaluated(self, candidate: Candidate, evaluation: Evaluation, seconds: float) -> None:
        """One candidate is done."""
        ...

    def generation_ended(self, summary: dict[str, Any]) -> None:
        """A generation was placed; `summary` is its row of the journal."""
        ...

    def control_began(self, steps: int) -> None:
        """The seed is being trained for as long as the winner's ancestry was."""
        ...
