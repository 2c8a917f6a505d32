"""Which trials are to be run: the first rung of new candidates, then what the fidelity promotes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import isfinite

from evo.compiler.compute import whole_steps
from evo.dsl.schedules import Course
from evo.evolution.ancestry import charge_of, seed_of
from evo.evolution.candidate import Candidate
from evo.evolution.documents import document_of
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings
from evo.evolution.trial import FOUNDING, FRESH, Start, Trial, WeightsRef

NEARLY = 1 - 1e-9
"""Of what is left of a budget: sums round."""


class Scheduler:
    """Asks for trials. What was asked stands in the journal, so nothing is remembered here."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.evolve, self.primary, self.budget = settings.evolve, settings.primary, settings.train_budget
        self.shares = self.evolve.fidelity.shares
        self.founders, self.age = settings.founder_by_seed, settings.age
        self.journal = journal

    @property
    def top(self) -> int:
        """The last rung."""
        return len(self.shares) - 1

    def begin(self, generation: int, candidates: list[Candidate]) -> None:
        """Ask for the first trial of those candidates of a generation that have none yet."""
        asked = {trial.candidate.id for trial in self.journal.trials(generation)}
        before = self.journal.candidates_before(generation)
        numbered = [(before + n, candidate) for n, candidate in enumerate(candidates) if candidate.id not in asked]
        if numbered:
            self.journal.add_trials(generation, [self._first(candidate, number) for number, candidate in numbered])

    def promoted(self, generation: int, population: Collection[str]) -> list[Trial]:
        """The trials at higher rungs that are wanted next; they belong to the generation that asks.

        Seeds climb all rungs, as every rung needs something to compare with; of others the fidelity decides.
        population: the elites of the working archive as the generation found it.
        """
        if generation == 0:
            pairs = list(self._climbing_seeds())
        else:
            pairs = self.evolve.fidelity.promote(self.journal.costs(self.primary), population)
        trials = [self._higher(candidate, rung) for candidate, rung in pairs]
        if trials:
            self.journal.add_trials(generation, trials)
        return trials

    def repeated(self, generation: int, refs: Collection[WeightsRef]) -> list[Trial]:
        """One more trial, with a seed of its own, of those that are named; they belong to the generation that asks."""
        trials = [self._again(ref) for ref in refs]
        if trials:
            self.journal.add_trials(generation, trials)
        return trials

    def _climbing_seeds(self) -> Iterator[tuple[str, int]]:
        costs = self.journal.costs(self.primary)
        for seed in self.journal.candidates(0):
            rung = 1 + next((rung for rung, own in reversed([*enumerate(costs)]) if seed.id in own), self.top)
            if rung <= self.top and isfinite(costs[rung - 1][seed.id]):
                yield seed.id, rung

    def _first(self, candidate: Candidate, number: int) -> Trial:
        """The first trial of the candidate that is made as the `number`th."""
        entry = self.evolve.fidelity.entry(number) if candidate.parents else 0
        start, rung = self._start(candidate, entry)
        return self._trial(candidate, start, rung, rung)

    def _start(self, candidate: Candidate, entry: int) -> tuple[Start, int]:
        """What a candidate begins from, and the rung at which it does.

        Inherited weights are charged with the training behind them: the candidate begins at the rung whose budget
        leaves it as much as the first rung has. Where none does, the parents' lower rungs are tried, then what its line
        was begun from.
        """
        first = self._founded(candidate)
        if not candidate.parents or not self.evolve.inherit:
            return first, entry
        reached = {parent: self.journal.rungs(parent) for parent in candidate.parents}
        for highest in range(self.top, -1, -1):
            below = {parent: [rung for rung in rungs if rung <= highest] for parent, rungs in reached.items()}
            if not all(below.values()):
                break
            sources = tuple(WeightsRef(parent, rungs[-1]) for parent, rungs in below.items())
            charge = charge_of(self.journal, sources, self.budget, self.founders)
            for rung in range(entry, self.top + 1):
                if self.shares[rung] - self._paid(charge) >= self.shares[0] * NEARLY:
                    return Start(sources, candidate.origins, self._trained(sources[0]), charge), rung
        return first, entry

    def _founded(self, candidate: Candidate) -> Start:
        """What a candidate begins from that has nothing of what was trained in this run: its founder's weights in a
        search that was begun warm, otherwise fresh draws."""
        if not self.founders:
            return FRESH
        founder = self.founders[seed_of(self.journal, candidate.id)]
        return Start((WeightsRef(candidate.id, FOUNDING),), (), founder.offset, founder.charge)

    def _paid(self, charge: float) -> float:
        """The share of the budget that a start is paid for by: what it took more than the oldest founder did."""
        return (charge - self.age) / self.budget.amount

    def _higher(self, id: str, rung: int) -> Trial:
        """The trial at a rung above the one that a candidate reached.

        Raises:
            ValueError: the rung is not the one above the highest with scores.
        """
        reached = self.journal.rung(id)
        if reached is None or rung != reached + 1:
            raise ValueError(f"candidate {id} reached rung {reached} and cannot be promoted to rung {rung}")
        below = self.journal.trial(WeightsRef(id, reached))
        return self._trial(below.candidate, below.start, rung, below.entry)

    def _again(self, ref: WeightsRef) -> Trial:
        """The same trial as one, but for its seed; it is trained from its start, alone."""
        found = self.journal.trial(ref)
        return Trial(found.candidate, found.rung, found.steps, found.start, found.rungs, repeat=ref.repeat + 1)

    def _trial(self, candidate: Candidate, start: Start, rung: int, entry: int) -> Trial:
        """The trial at a rung of a candidate that begins at rung `entry`."""
        rungs = self._rungs(candidate, start, entry)
        done = 0
        if rung > entry:
            document = document_of(candidate.document)
            below = Course(rungs[rung - 1 - entry], rungs[0], rungs[-1])
            done = document.train.schedule.shared(below)
        return Trial(candidate, rung, rungs[rung - entry], start, rungs, done)

    def _rungs(self, candidate: Candidate, start: Start, entry: int) -> tuple[int, ...]:
        """Steps up to the end of each rung from the first on: all candidates get the same compute, so a cheaper one
        takes more of them; what it inherits is paid for."""
        document = document_of(candidate.document)
        paid = self._paid(start.charge)
        found: list[int] = []
        for share in self.shares[entry:]:
            least = found[-1] + 1 if found else 1
            found.append(max(least, whole_steps(self.budget, document, share - paid)))
        return tuple(found)

    def _trained(self, ref: WeightsRef) -> int:
        """Training steps along the line of first sources, the trial's own included."""
        trial = self.journal.trial(ref)
        return trial.start.offset + trial.steps
