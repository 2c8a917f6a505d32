"""Where a variant came from: its ancestors, and its weights restored along them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from evo.archive.snapshot.blob import from_bytes
from evo.archive.snapshot.restore import restore
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.evolution.evaluate import starting_weights
from evo.evolution.journal import Candidate, Journal

KEPT = 32
"""Restored weights held in memory."""


class Lineage:
    """Reads ancestries and weights from a journal. `inherit`: whether children started from their parents' weights."""

    def __init__(self, journal: Journal, inherit: bool) -> None:
        self.journal, self.inherit = journal, inherit
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()

    def weights(self, id: str) -> dict[str, Tensor]:
        """A variant's weights from its snapshot and its ancestors', float32 on the CPU.

        Raises:
            KeyError: no such candidate, or it has no snapshot.
            SnapshotError: the base is not the one the snapshot was taken from.
        """
        if id in self._kept:
            self._kept.move_to_end(id)
            return self._kept[id]
        weights = self._restore(self.journal.candidate(id))
        self._kept[id] = weights
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return weights

    def _restore(self, candidate: Candidate) -> dict[str, Tensor]:
        evaluation = self.journal.evaluation(candidate.id)
        if evaluation is None or not evaluation.snapshot:
            raise KeyError(candidate.id)
        document = parse(candidate.document).document
        parents = [self.weights(parent) for parent in candidate.parents] if self.inherit else []
        base, _ = starting_weights(resolve(document.organism), document, parents, candidate.origins)
        return restore(base, from_bytes(evaluation.snapshot))

    def line(self, id: str) -> list[Candidate]:
        """The candidate and its first parents up to the seed, youngest first."""
        found = [self.journal.candidate(id)]
        while found[-1].parents:
            found.append(self.journal.candidate(found[-1].parents[0]))
        return found

    def ancestry(self, id: str) -> dict[str, Candidate]:
        """The candidate and all its ancestors, both parents' sides, each once."""
        found: dict[str, Candidate] = {}
        waiting = [id]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = self.journal.candidate(name)
                waiting += found[name].parents
        return found

    def steps(self, id: str) -> int:
        """Training steps spent on a candidate and, if weights are inherited, on all its ancestors."""
        members = self.ancestry(id).values() if self.inherit else [self.journal.candidate(id)]
        return sum(parse(member.document).document.train.steps for member in members)
