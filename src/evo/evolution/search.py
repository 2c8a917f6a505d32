"""The search: ask for trials, tell their evaluations; every step is in the journal before the next begins.

    while trials := search.ask():
        search.tell({trial: evaluate(trial) for trial in trials})

Resuming is asking: finished generations are replayed from the journal (placing is a pure function of evaluations),
trials that were evaluated are not asked for again, and everything random comes from named streams. So a run that was
killed anywhere continues to the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from evo.dsl.canonical import content_hash
from evo.engines.jobs import Engine, Job
from evo.evolution.archives import SAMPLE, Archives
from evo.evolution.candidate import Candidate, candidate_id
from evo.evolution.cost_range import cost_range
from evo.evolution.documents import document_of, plan_of
from evo.evolution.emission import emit
from evo.evolution.emitters.base import Situation
from evo.evolution.evaluate import EVALUATE, TrialJob, pack_weights
from evo.evolution.exact import ExactWeights
from evo.evolution.journal import Journal
from evo.evolution.judge import Judge
from evo.evolution.lineage import Lineage
from evo.evolution.observer import Observer, Silent
from evo.evolution.probing import sample
from evo.evolution.rundir import RunDirectory
from evo.evolution.scheduler import Scheduler
from evo.evolution.scoring import Scoring
from evo.evolution.settings import Settings
from evo.evolution.states import States
from evo.evolution.surrogates.base import GUESSES, Chooser, make_surrogate
from evo.evolution.told import told
from evo.evolution.trial import Evaluation, Trial
from evo.evolution.variants import write_variants
from evo.training.behaviour import MEASURES

SAMPLE_LEAST = 16
"""Mutants that are probed for the shortest search; no search probes more than it has candidates."""


class Search:
    """One search over an open journal.

    directory: where variants are written; None writes none. evaluate: what engines call with a `TrialJob`, as
    'package.module:name'; it gives an `Evaluation`.
    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        evaluate: str = EVALUATE,
        directory: RunDirectory | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.settings, self.journal, self.evaluate = settings, journal, evaluate
        self.directory, self.observer = directory, observer or Silent()
        self.evolve = settings.evolve
        self.lineage = Lineage(journal, settings, directory and directory.path)
        self.states = States(directory and directory.path)
        self.scheduler = Scheduler(settings, journal)
        self.archives = Archives(self.evolve, journal)
        self.judge = Judge(Scoring(settings.primary, self.evolve.fitness), self.archives, self.evolve.repeats)
        self.exact = ExactWeights(settings, directory, journal, self.judge.scoring)
        self.known: set[str] = set()
        self.generation = 0
        self.is_open = False

    def ask(self) -> list[Trial]:
        """The trials to be evaluated next, in any order; empty when the search is done.

        Asking again without telling gives the same trials.

        Raises:
            DiagnosticError: no seed could be evaluated (EVO620), with the causes.
        """
        while self.generation <= self.evolve.generations:
            is_done = self.journal.finished() > self.generation
            if not self.is_open:
                self._open(is_done)
            if not is_done and (trials := self._pending()):
                return trials
            self._close(is_done)
        return []

    def tell(self, results: Mapping[Trial, Evaluation], seconds: Mapping[Trial, float] | None = None) -> None:
        """Record what came of some of the trials that were asked for; `seconds` is the wall time of each.

        What is told of a trial again does not count.
        """
        for trial, evaluation in results.items():
            if self.journal.is_evaluated(trial.ref):
                continue
            if evaluation.state:
                self.states.put(trial.ref, evaluation.state)
            if not evaluation.cause:
                self.exact.put(trial, evaluation.weights)
            took = (seconds or {}).get(trial, 0.0)
            self.journal.add_evaluation(trial.ref, evaluation, took)
            self.states.drop(trial.below)
            self.observer.evaluated(trial, evaluation, took)

    def run(self, engine: Engine) -> None:
        """Ask, evaluate on an engine, and tell, to the end. Raises what `ask` and `told` raise."""
        self._probe(engine)
        while trials := self.ask():
            by_id = {trial.id: trial for trial in trials}
            jobs = (Job(trial.id, self.evaluate, self.job(trial)) for trial in trials)
            for outcome in engine.map(jobs):
                trial = by_id[outcome.id]
                self.tell(
                    {trial: told(outcome, self.settings.primary, measures=len(MEASURES))}, {trial: outcome.seconds}
                )
        self.states.clear()
        self.exact.prune()

    def _probe(self, engine: Engine) -> None:
        """Sample what organisms can show, where the cells are to be fitted to it and trials are measured by evo."""
        mutants, most = self.evolve.centroids.sampling()
        is_ours = self.evaluate == EVALUATE
        if not (is_ours and mutants) or self.journal.finished() or self.journal.fact(SAMPLE) is not None:
            return
        seeds = {candidate.id: candidate.document for candidate in self._seeds()}
        mutants = min(mutants, max(SAMPLE_LEAST, self.evolve.generations * self.evolve.population))
        found = sample(self.settings, engine, seeds, mutants, most)
        self.journal.set_fact(SAMPLE, found.to_data())

    def job(self, trial: Trial) -> TrialJob:
        """What `evaluate` is called with: the trial with the weights that it starts from."""
        candidate, start = trial.candidate, trial.start
        return TrialJob(
            document=candidate.document,
            root=self.settings.root,
            device=self.settings.device,
            kernels=self.settings.kernels,
            task_digest=self.settings.task_digest,
            parents=tuple(pack_weights(self.lineage.weights(source)) for source in start.sources),
            origins=start.origins,
            course=trial.course,
            state=self.states.get(trial.below) if trial.done else b"",
            done=trial.done,
            is_kept=trial.climbs,
            repeat=trial.repeat,
            offset=start.offset,
            max_seconds=self.settings.max_seconds,
            tolerance=self.evolve.tolerance,
            budget=self.settings.budget,
            exact=self.exact.bar(trial),
            metadata=(("candidate", candidate.id), ("hash", candidate.hash), ("parents", ",".join(candidate.parents))),
        )

    def _pending(self) -> list[Trial]:
        if trials := self.journal.waiting(self.generation):
            return trials
        population = frozenset(str(elite.id) for elite in self.archives.working.elites())
        if trials := self.scheduler.promoted(self.generation, population):
            self.observer.promoted(trials)
            return trials
        contested = self.judge.contests.contested(
            self.generation, self.journal.evaluations(self.generation, with_snapshot=False)
        )
        if trials := self.scheduler.repeated(self.generation, contested):
            self.observer.repeated(trials)
        return trials

    def _open(self, is_done: bool) -> None:
        """Know the candidates of the present generation, making them where they are new, and ask for their trials."""
        candidates = self.journal.candidates(self.generation)
        if not candidates and not is_done:
            candidates = self._seeds() if self.generation == 0 else self._children()
            self.journal.add_candidates(candidates)
        self.known.update(candidate.hash for candidate in candidates)
        if not is_done:
            self.observer.generation_began(self.generation, candidates, self.archives.temperature(self.generation))
            self.scheduler.begin(self.generation, candidates)
        self.is_open = True

    def _seeds(self) -> list[Candidate]:
        documents = {content_hash(document_of(text)): text for text in self.settings.seeds}
        items = enumerate(documents.items())
        return [Candidate(candidate_id(0, slot), 0, slot, hash, text) for slot, (hash, text) in items]

    def _children(self) -> list[Candidate]:
        situation = Situation(
            evolve=self.evolve,
            archive=self.archives.working,
            journal=self.journal,
            costs=cost_range(self.evolve, map(plan_of, self.settings.seeds)),
            scale=self.archives.mutation_scale(self.generation),
            known=self.known,
        )
        spec = self.evolve.surrogate
        if spec is None:
            return emit(self.generation, situation)[0]
        objectives = dict(situation.scored)
        known = [(own.document, objectives.get(own.id, -inf)) for own in self.journal.candidates()]
        chooser = Chooser(make_surrogate(spec, self.settings), known)
        candidates, guesses = emit(self.generation, situation, chooser.choose, spec.pool)
        self.journal.set_fact(f"{GUESSES}/{self.generation}", guesses)
        return candidates

    def _close(self, is_done: bool) -> None:
        """Judge the present generation, record it unless it is recorded already, and go on to the next."""
        judgement = self.judge.judge(self.generation, self.journal.evaluations(self.generation))
        self.exact.note(self.archives.standings)
        if not is_done:
            self.journal.add_generation(judgement.summary, judgement.terms, judgement.placed)
            self.exact.prune()
        if self.directory is not None:
            write_variants(self.directory, judgement.results, judgement.terms)
        self.observer.generation_ended(judgement.summary)
        self.generation, self.is_open = self.generation + 1, False
