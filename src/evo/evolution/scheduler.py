"""Which trials are to be run: the first rung of new candidates, then what the fidelity promotes."""

from __future__ import annotations

from collections.abc import Collection

from evo.compiler.compute import whole_steps
from evo.dsl.document import parse
from evo.evolution.candidate import Candidate
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings
from evo.evolution.trial import FRESH, Start, Trial, WeightsRef


class Scheduler:
    """Asks for trials. What was asked stands in the journal, so nothing is remembered here."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.evolve, self.primary, self.budget = settings.evolve, settings.primary, settings.train_budget
        self.journal = journal

    def begin(self, generation: int, candidates: list[Candidate]) -> None:
        """Ask for the first rung of those candidates of a generation that have no trial yet."""
        asked = {trial.candidate.id for trial in self.journal.trials(generation)}
        trials = [self._first(candidate) for candidate in candidates if candidate.id not in asked]
        if trials:
            self.journal.add_trials(generation, trials)

    def waiting(self, generation: int) -> list[Trial]:
        """The trials of a generation that were not evaluated yet."""
        return [t for t in self.journal.trials(generation) if not self.journal.is_evaluated(t.ref)]

    def promoted(self, generation: int, population: Collection[str]) -> list[Trial]:
        """The trials at higher rungs that the fidelity wants next; they belong to the generation that asks.

        population: the elites of the working archive as the generation found it.
        """
        pairs = self.evolve.fidelity.promote(self.journal.costs(self.primary), population)
        trials = [self._higher(candidate, rung) for candidate, rung in pairs]
        if trials:
            self.journal.add_trials(generation, trials)
        return trials

    def _first(self, candidate: Candidate) -> Trial:
        """The trial at rung 0: from the parents' latest weights if they are inherited, otherwise from fresh ones."""
        return Trial(candidate, 0, self._steps(candidate, 0), self._start(candidate))

    def _start(self, candidate: Candidate) -> Start:
        if not candidate.parents or not self.evolve.inherit:
            return FRESH
        rungs = [(parent, self.journal.rung(parent)) for parent in candidate.parents]
        sources = tuple(WeightsRef(parent, rung) for parent, rung in rungs if rung is not None)
        assert len(sources) == len(rungs), "parents come from the archive, so they have scores"
        return Start(sources, candidate.origins, self._trained(sources[0]))

    def _higher(self, id: str, rung: int) -> Trial:
        """The trial at a rung above the first: the candidate's own weights, trained for the steps that are missing.

        Raises:
            ValueError: the rung is not the one above the highest with scores.
        """
        reached = self.journal.rung(id)
        if reached is None or rung != reached + 1:
            raise ValueError(f"candidate {id} reached rung {reached} and cannot be promoted to rung {rung}")
        candidate, below = self.journal.candidate(id), WeightsRef(id, reached)
        steps = self._steps(candidate, rung) - self._steps(candidate, reached)
        return Trial(candidate, rung, steps, Start((below,), (), self._trained(below)))

    def _steps(self, candidate: Candidate, rung: int) -> int:
        """Steps up to the end of a rung: every candidate gets the same compute, so a cheaper one takes more of them."""
        share = self.evolve.fidelity.shares[rung]
        return whole_steps(self.budget, parse(candidate.document).document, share)

    def _trained(self, ref: WeightsRef) -> int:
        """Training steps along the line of first sources, the trial's own included."""
        trial = self.journal.trial(ref)
        return trial.start.offset + trial.steps
