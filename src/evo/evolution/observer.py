"""What a search tells those who watch it: a live table, a test, nobody."""

from __future__ import annotations

from typing import Protocol

from evo.evolution.candidate import Candidate
from evo.evolution.summary import Summary
from evo.evolution.trial import Evaluation, Trial


class Observer(Protocol):
    """Someone who watches a search."""

    def warned(self, warnings: tuple[str, ...]) -> None:
        """What the user should know of the run's text and seeds, once at the start."""
        ...

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None:
        """A generation's candidates are known."""
        ...

    def promoted(self, trials: list[Trial]) -> None:
        """Trials at higher rungs are to be run in this generation."""
        ...

    def repeated(self, trials: list[Trial]) -> None:
        """Candidates that would win by less than the noise are to be tried again with another seed."""
        ...

    def evaluated(self, trial: Trial, evaluation: Evaluation, seconds: float) -> None:
        """One trial is done."""
        ...

    def generation_ended(self, summary: Summary) -> None:
        """A generation was placed; `summary` is its row of the journal."""
        ...

    def verdict_began(self, trainings: int) -> None:
        """What was found is being trained from scratch, beside the seeds: so many trainings."""
        ...

    def verdict_trained(self, trainings: int) -> None:
        """So many more of them are done."""
        ...


class Silent:
    """Watches and says nothing."""

    def warned(self, warnings: tuple[str, ...]) -> None: ...

    def generation_began(self, generation: int, candidates: list[Candidate], temperature: float) -> None: ...

    def promoted(self, trials: list[Trial]) -> None: ...

    def repeated(self, trials: list[Trial]) -> None: ...

    def evaluated(self, trial: Trial, evaluation: Evaluation, seconds: float) -> None: ...

    def generation_ended(self, summary: Summary) -> None: ...

    def verdict_began(self, trainings: int) -> None: ...

    def verdict_trained(self, trainings: int) -> None: ...
