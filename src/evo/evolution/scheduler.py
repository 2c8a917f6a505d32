"""Which trials are to be run: the first rung of new candidates, then what the fidelity promotes."""

from __future__ import annotations

from evo.dsl.document import parse
from evo.dsl.evolve import EvolveSpec
from evo.evolution.candidate import Candidate
from evo.evolution.journal import Journal
from evo.evolution.trial import FRESH, Start, Trial, WeightsRef


class Scheduler:
    """Asks for trials. What was asked stands in the journal, so nothing is remembered here."""

    def __init__(self, evolve: EvolveSpec, journal: Journal) -> None:
        self.evolve, self.journal = evolve, journal

    def begin(self, generation: int, candidates: list[Candidate]) -> None:
        """Ask for the first rung of those candidates of a generation that have no trial yet."""
        asked = {trial.candidate.id for trial in self.journal.trials(generation)}
        trials = [self._first(candidate) for candidate in candidates if candidate.id not in asked]
        if trials:
            self.journal.add_trials(generation, trials)

    def waiting(self, generation: int) -> list[Trial]:
        """The trials of a generation that were not evaluated yet."""
        return [t for t in self.journal.trials(generation) if not self.journal.is_evaluated(t.ref)]

    def _first(self, candidate: Candidate) -> Trial:
        """The trial at rung 0: from the parents' latest weights if they are inherited, otherwise from fresh ones."""
        return Trial(candidate, 0, parse(candidate.document).document.train.steps, self._start(candidate))

    def _start(self, candidate: Candidate) -> Start:
        if not candidate.parents or not self.evolve.inherit:
            return FRESH
        rungs = [(parent, self.journal.rung(parent)) for parent in candidate.parents]
        sources = [WeightsRef(parent, rung) for parent, rung in rungs if rung is not None]
        assert len(sources) == len(rungs), "parents come from the archive, so they have scores"
        before = self.journal.trial(sources[0])
        return Start(tuple(sources), candidate.origins, before.start.offset + before.steps)
