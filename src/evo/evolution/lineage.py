"""Where a variant came from: its ancestors, and its weights restored along them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor

from evo.archive.snapshot.blob import from_bytes
from evo.archive.snapshot.restore import restore
from evo.compiler.resolve import resolve
from evo.evolution.ancestry import ancestry
from evo.evolution.candidate import Candidate
from evo.evolution.documents import document_of
from evo.evolution.inheritance import starting_weights
from evo.evolution.journal import Journal
from evo.evolution.trial import Trial, WeightsRef

KEPT_BYTES = 512 * 2**20
"""Restored weights held in memory, in fp32."""


class Lineage:
    """Reads ancestries and weights from a journal, whose trials say what each of them began with."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._kept: OrderedDict[WeightsRef, dict[str, Tensor]] = OrderedDict()
        self._bytes = 0

    def latest(self, id: str) -> WeightsRef:
        """The weights of a candidate after the highest rung that gave scores. Raises KeyError if there are none."""
        rung = self.journal.rung(id)
        if rung is None:
            raise KeyError(id)
        return WeightsRef(id, rung)

    def weights(self, ref: WeightsRef) -> dict[str, Tensor]:
        """The weights after a trial, from its snapshot and its ancestors', float32 on the CPU.

        Raises:
            KeyError: no such trial, or it has no snapshot.
            SnapshotError: the base is not the one the snapshot was taken from.
        """
        found: dict[WeightsRef, dict[str, Tensor]] = {}
        for trial in self._missing(ref):
            sources = [found[source] if source in found else self._kept[source] for source in trial.start.sources]
            found[trial.ref] = self._restore(trial, sources)
        weights = found[ref] if ref in found else self._kept[ref]
        self._keep({**found, ref: weights})
        return weights

    def _missing(self, ref: WeightsRef) -> list[Trial]:
        """The trial and those before it that have to be restored for it, sources before what began from them."""
        missing: dict[WeightsRef, Trial] = {}
        waiting = [ref]
        while waiting:
            name = waiting.pop()
            if name not in self._kept and name not in missing:
                missing[name] = self.journal.trial(name)
                waiting += missing[name].start.sources
        return sorted(missing.values(), key=lambda t: (t.candidate.generation, t.candidate.slot, t.rung))

    def _restore(self, trial: Trial, sources: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        evaluation = self.journal.evaluation(trial.ref)
        if evaluation is None or not evaluation.snapshot:
            raise KeyError(trial.ref)
        document = document_of(trial.candidate.document)
        base, _ = starting_weights(resolve(document.organism), document, sources, trial.start.origins)
        return restore(base, from_bytes(evaluation.snapshot))

    def _keep(self, found: dict[WeightsRef, dict[str, Tensor]]) -> None:
        """Remember weights as the latest used, and forget the least lately used ones beyond the room there is."""
        for ref, weights in found.items():
            if ref not in self._kept:
                self._bytes += _size(weights)
            self._kept[ref] = weights
            self._kept.move_to_end(ref)
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])

    def line(self, id: str) -> list[Candidate]:
        """The candidate and its first parents up to the seed, youngest first."""
        found = [self.journal.candidate(id)]
        while found[-1].parents:
            found.append(self.journal.candidate(found[-1].parents[0]))
        return found

    def steps(self, ref: WeightsRef) -> int:
        """Training steps spent on the weights of a trial, its ancestors' included where they were inherited."""
        return sum(trial.steps for trial in ancestry(self.journal, [ref]).values())


def _size(weights: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in weights.values())
