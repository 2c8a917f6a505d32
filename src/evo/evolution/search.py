"""The search: ask, evaluate, tell, generation by generation; every step is in the journal before the next begins.

Resuming is running: finished generations are replayed from the journal (placing is a pure function of evaluations),
evaluations that exist are not repeated, and everything random comes from named streams. So a run that was killed
anywhere continues to the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from evo.archive.annealing import mutation_scale
from evo.archive.centroids import centroids
from evo.archive.cvt import CVTArchive, Placement
from evo.archive.rules import ELITIST, Annealed
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.streams import Stream
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.dsl.canonical import content_hash
from evo.dsl.document import parse
from evo.engines.jobs import Engine, Job
from evo.evolution.breed import Breeder
from evo.evolution.evaluate import FUNCTION, Evaluation, Task, outcome_of, pack_weights
from evo.evolution.fitness import UNIFORM_BITS, Reference, Terms, cost_of, fitness
from evo.evolution.journal import Candidate, Journal, candidate_id
from evo.evolution.lineage import Lineage
from evo.evolution.observer import Observer
from evo.evolution.rundir import RunDirectory, Settings
from evo.training.behaviour import MEASURES


class Search:
    """One run over a directory, an open journal and an engine."""

    def __init__(
        self, directory: RunDirectory, settings: Settings, journal: Journal, engine: Engine, observer: Observer
    ) -> None:
        self.directory, self.settings, self.journal = directory, settings, journal
        self.engine, self.observer = engine, observer
        self.evolve = settings.evolve
        self.lineage = Lineage(journal, self.evolve.inherit)
        cells = self._centroids()
        self.working, self.result = CVTArchive(cells), CVTArchive(cells)
        self.improved: list[bool] = []
        self.known: set[str] = set()
        self.reference = Reference(UNIFORM_BITS, 1.0)
        self.best_bits: tuple[float, str] | None = None

    def run(self) -> None:
        """Run, or go on, to the end.

        Raises:
            DiagnosticError: no seed could be evaluated (EVO620), with the causes.
        """
        for generation in range(self.evolve.generations + 1):
            candidates = self.journal.candidates(generation) or self._ask(generation)
            self.known.update(candidate.hash for candidate in candidates)
            is_done = self.journal.finished() > generation
            if not is_done:
                self.observer.generation_began(generation, candidates, self._temperature(generation))
                self._evaluate(candidates)
            self._tell(generation, candidates, is_done)

    def _centroids(self) -> Any:
        saved = self.journal.fact("centroids")
        if saved is None:
            stream = Stream(self.evolve.seed).child("centroids")
            saved = centroids(self.evolve.cells, [(0.0, 1.0)] * len(MEASURES), stream).tolist()
            self.journal.set_fact("centroids", saved)
        return saved

    def _temperature(self, generation: int) -> float:
        """Of the seeds and of the first children: the start."""
        return self.evolve.cooling.temperature(max(0, generation - 1), self.evolve.generations, self.improved)

    def _ask(self, generation: int) -> list[Candidate]:
        candidates = self._seeds() if generation == 0 else self._children(generation)
        self.journal.add_candidates(candidates)
        return candidates

    def _seeds(self) -> list[Candidate]:
        documents = {content_hash(parse(text).document): text for text in self.settings.seeds}
        items = enumerate(documents.items())
        return [Candidate(candidate_id(0, slot), 0, slot, hash, text) for slot, (hash, text) in items]

    def _children(self, generation: int) -> list[Candidate]:
        scale = mutation_scale(self._temperature(generation), self._temperature(0))
        costliest = max(plan_of(text).flops_per_token for text in self.settings.seeds)
        breeder = Breeder(self.evolve, self.working, self.journal.candidate, costliest * self.evolve.growth)
        return breeder.generation(generation, self.known, scale)

    def _evaluate(self, candidates: list[Candidate]) -> None:
        waiting = {c.id: c for c in candidates if self.journal.evaluation(c.id, with_snapshot=False) is None}
        for outcome in self.engine.map(self._jobs(waiting)):
            evaluation = outcome_of(outcome)
            self.journal.add_evaluation(outcome.id, evaluation, outcome.seconds)
            self.observer.evaluated(waiting[outcome.id], evaluation, outcome.seconds)

    def _jobs(self, candidates: dict[str, Candidate]) -> Iterator[Job]:
        return (Job(id, FUNCTION, self._task(candidate)) for id, candidate in candidates.items())

    def _task(self, candidate: Candidate) -> Task:
        parents = [self.lineage.weights(parent) for parent in candidate.parents] if self.evolve.inherit else []
        return Task(
            document=candidate.document,
            root=self.settings.root,
            device=self.settings.device,
            kernels=self.settings.kernels,
            parents=tuple(pack_weights(weights) for weights in parents),
            origins=candidate.origins,
            offset=candidate.steps_before,
            max_seconds=self.settings.max_seconds,
            tolerance=self.evolve.tolerance,
            metadata=(("candidate", candidate.id), ("hash", candidate.hash), ("parents", ",".join(candidate.parents))),
        )

    def _tell(self, generation: int, candidates: list[Candidate], is_done: bool) -> None:
        """Score and place a generation, in the order of its slots; record it unless it is recorded already."""
        evaluations = {c.id: self.journal.evaluation(c.id) for c in candidates}
        scored = [(c, e) for c in candidates if (e := evaluations[c.id]) is not None and not e.cause]
        if generation == 0:
            self._set_reference(candidates, scored)
        terms = {c.id: self._fitness(c, e) for c, e in scored}
        temperature = self._temperature(generation)
        placements = self._place(generation, scored, terms, temperature)
        self.improved += [any(p.status in ("new", "improved") for p in placements["result"])] if generation else []
        for candidate, evaluation in scored:
            if self.best_bits is None or evaluation.bits_per_byte < self.best_bits[0]:
                self.best_bits = (evaluation.bits_per_byte, candidate.id)
        summary = self._summary(generation, temperature, candidates, scored, placements)
        if not is_done:
            rows = [(id, t.objective, t.task, t.efficiency, t.gradient) for id, t in terms.items()]
            placed = [(str(p.id), a, p.cell, p.status, p.value) for a, ps in placements.items() for p in ps]
            self.journal.add_generation(generation, summary, rows, placed)
        for candidate in candidates:
            evaluation = evaluations[candidate.id]
            if evaluation is not None:
                score = asdict(terms[candidate.id]) if candidate.id in terms else None
                self.directory.write_variant(candidate, evaluation, score)
        self.observer.generation_ended(summary)

    def _set_reference(self, candidates: list[Candidate], scored: list[tuple[Candidate, Evaluation]]) -> None:
        if not scored:
            found = ((c, self.journal.evaluation(c.id)) for c in candidates)
            causes = "; ".join(f"{c.id}: {e.cause}: {e.message}" for c, e in found if e is not None)
            raise DiagnosticError([Diagnostic("EVO620", f"no seed could be evaluated ({causes})")])
        best, evaluation = min(scored, key=lambda pair: pair[1].bits_per_byte)
        self.reference = Reference(evaluation.bits_per_byte, cost_of(plan_of(best.document)))

    def _fitness(self, candidate: Candidate, evaluation: Evaluation) -> Terms:
        plan = plan_of(candidate.document)
        return fitness(
            evaluation.bits_per_byte, evaluation.gradient_relevance, plan, self.reference, self.evolve.fitness
        )

    def _place(
        self, generation: int, scored: list[tuple[Candidate, Evaluation]], terms: dict[str, Terms], temperature: float
    ) -> dict[str, tuple[Placement, ...]]:
        ids = [candidate.id for candidate, _ in scored]
        objectives = [terms[id].objective for id in ids]
        measures = [evaluation.measures for _, evaluation in scored]
        stream = Stream(self.evolve.seed).child("accept", generation)
        annealed = Annealed.drawn(temperature, len(ids), stream)
        return {
            "working": self.working.add(ids, objectives, measures, annealed),
            "result": self.result.add(ids, objectives, measures, ELITIST),
        }

    def _summary(
        self,
        generation: int,
        temperature: float,
        candidates: list[Candidate],
        scored: list[tuple[Candidate, Evaluation]],
        placements: dict[str, tuple[Placement, ...]],
    ) -> dict[str, Any]:
        statistics = self.result.statistics()
        return {
            "generation": generation,
            "temperature": temperature,
            "candidates": len(candidates),
            "failures": len(candidates) - len(scored),
            "coverage": statistics.coverage,
            "qd_score": statistics.qd_score,
            "best_objective": statistics.objective_max,
            "best": statistics.objective_argmax,
            "best_bits_per_byte": self.best_bits[0] if self.best_bits else None,
            "best_bits": self.best_bits[1] if self.best_bits else None,
            "improved": sum(p.status in ("new", "improved") for p in placements["result"]),
            "annealed": sum(p.status == "accepted" for p in placements["working"]),
        }


def plan_of(document: str) -> Plan:
    """The plan of a canonical document."""
    return resolve(parse(document).document.organism)
