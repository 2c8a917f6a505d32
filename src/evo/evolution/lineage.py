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

KEPT_BYTES = 512 * 2**20
"""Restored weights held in memory, in fp32."""


class Lineage:
    """Reads ancestries and weights from a journal. `inherit`: whether children started from their parents' weights."""

    def __init__(self, journal: Journal, inherit: bool) -> None:
        self.journal, self.inherit = journal, inherit
        self._kept: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._bytes = 0

    def weights(self, id: str) -> dict[str, Tensor]:
        """A variant's weights from its snapshot and its ancestors', float32 on the CPU.

        Raises:
            KeyError: no such candidate, or it has no snapshot.
            SnapshotError: the base is not the one the snapshot was taken from.
        """
        needed = self._missing(id)
        found: dict[str, dict[str, Tensor]] = {}
        for candidate in sorted(needed.values(), key=lambda c: (c.generation, c.slot)):  # parents before children
            parents = [found.get(parent) or self._kept[parent] for parent in self._bases(candidate)]
            found[candidate.id] = self._restore(candidate, parents)
        weights = found[id] if id in found else self._kept[id]
        self._keep({**found, id: weights})
        return weights

    def _bases(self, candidate: Candidate) -> tuple[str, ...]:
        return candidate.parents if self.inherit else ()

    def _missing(self, id: str) -> dict[str, Candidate]:
        """The candidate and those ancestors that have to be restored for it."""
        missing: dict[str, Candidate] = {}
        waiting = [id]
        while waiting:
            name = waiting.pop()
            if name not in self._kept and name not in missing:
                missing[name] = self.journal.candidate(name)
                waiting += self._bases(missing[name])
        return missing

    def _restore(self, candidate: Candidate, parents: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        evaluation = self.journal.evaluation(candidate.id)
        if evaluation is None or not evaluation.snapshot:
            raise KeyError(candidate.id)
        document = parse(candidate.document).document
        base, _ = starting_weights(resolve(document.organism), document, parents, candidate.origins)
        return restore(base, from_bytes(evaluation.snapshot))

    def _keep(self, found: dict[str, dict[str, Tensor]]) -> None:
        """Remember weights as the latest used, and forget the least lately used ones beyond the room there is."""
        for id, weights in found.items():
            if id not in self._kept:
                self._bytes += _size(weights)
            self._kept[id] = weights
            self._kept.move_to_end(id)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])

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


def _size(weights: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in weights.values())
