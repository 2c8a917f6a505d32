"""The elites of the working archive with what the journal knows of their terms and their children."""

from __future__ import annotations

from functools import cached_property

from evo.archive.cvt import CVTArchive
from evo.compiler.plan import Plan
from evo.compiler.resolve import resolve
from evo.evolution.documents import document_of
from evo.evolution.journal import Journal
from evo.evolution.trial import WeightsRef


class ArchiveBreeders:
    """See `evo.dsl.selections.Breeders`. What a selection does not ask for is not read."""

    def __init__(self, archive: CVTArchive, journal: Journal) -> None:
        self._journal, self._elites = journal, archive.elites()
        self.objectives = [elite.objective for elite in self._elites]
        self.measures = [elite.measures for elite in self._elites]

    def id(self, index: int) -> str:
        """The candidate that an elite is."""
        return str(self._elites[index].id)

    @property
    def terms(self) -> list[tuple[float, ...]]:
        """See `Breeders`."""
        return self._all_terms

    @property
    def gains(self) -> list[tuple[float, ...]]:
        """See `Breeders`."""
        return self._all_gains

    @property
    def costs(self) -> list[dict[str, float]]:
        """See `Breeders`."""
        return self._all_costs

    @cached_property
    def _all_costs(self) -> list[dict[str, float]]:
        ids = [self.id(index) for index in range(len(self._elites))]
        documents = [document_of(self._journal.candidate(id).document) for id in ids]
        by_rung = self._journal.costs(documents[0].train.task.primary)
        rungs = [self._journal.rung(id) for id in ids]
        scores = [by_rung[rung][id] for id, rung in zip(ids, rungs, strict=True) if rung is not None]
        pairs = zip(documents, scores, strict=True)
        return [{"score": score, **_plan_costs(resolve(document.organism))} for document, score in pairs]

    @cached_property
    def _all_terms(self) -> list[tuple[float, ...]]:
        return [self._terms(self.id(index)) for index in range(len(self._elites))]

    @cached_property
    def _all_gains(self) -> list[tuple[float, ...]]:
        past = self._journal.past
        gains = past.gains()
        families = (past.children(self.id(index)) for index in range(len(self._elites)))
        return [tuple(max(0.0, gains.get(child, 0.0)) for child in children) for children in families]

    def _terms(self, id: str) -> tuple[float, ...]:
        rung = self._journal.rung(id)
        assert rung is not None, "elites have scores"
        found = self._journal.terms(WeightsRef(id, rung))
        assert found is not None, "elites have objectives"
        return found.task, found.efficiency, found.gradient


def _plan_costs(plan: Plan) -> dict[str, float]:
    """See `Breeders.costs`."""
    return {
        "flops": plan.flops_per_token,
        "cache": float(plan.cache_values(plan.context)),
        "parameters": float(plan.parameters),
        "depth": float(sum(1 for stage in plan.stages for _ in stage.running_layers())),
    }
