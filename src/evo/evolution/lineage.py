"""Where a variant came from: its ancestors, and its weights restored along them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

from evo.archive.snapshot.blob import from_bytes
from evo.archive.snapshot.restore import restore
from evo.compiler.resolve import resolve
from evo.evolution.ancestry import ancestry, seed_of
from evo.evolution.candidate import Candidate
from evo.evolution.documents import document_of
from evo.evolution.founders import read_founder
from evo.evolution.inheritance import starting_weights
from evo.evolution.journal import Journal
from evo.evolution.settings import Settings
from evo.evolution.trial import FOUNDING, Trial, WeightsRef

KEPT_BYTES = 512 * 2**20
"""Restored weights held in memory, in fp32."""


class Lineage:
    """Reads ancestries and weights from a journal, whose trials say what each of them began with.

    settings, folder: of the run, where it may have been begun warm.
    """

    def __init__(self, journal: Journal, settings: Settings | None = None, folder: Path | None = None) -> None:
        self.journal = journal
        self.founders, self.folder = () if settings is None else settings.founders, folder
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
            DiagnosticError: the run was begun from weights that are gone or damaged (EVO600).
        """
        found: dict[WeightsRef, dict[str, Tensor]] = {}
        for trial in self._missing(ref):
            found[trial.ref] = self._restore(trial, [self._source(source, found) for source in trial.start.sources])
        weights = self._source(ref, found)
        self._keep({**found, ref: weights})
        return weights

    def _missing(self, ref: WeightsRef) -> list[Trial]:
        """The trial and those before it that have to be restored for it, sources before what began from them."""
        missing: dict[WeightsRef, Trial] = {}
        waiting = [ref]
        while waiting:
            name = waiting.pop()
            if name not in self._kept and name not in missing and name.rung != FOUNDING:
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

    def _source(self, ref: WeightsRef, found: dict[WeightsRef, dict[str, Tensor]]) -> dict[str, Tensor]:
        if ref.rung == FOUNDING:
            self._pass_on(ref, found)
        return found[ref] if ref in found else self._kept[ref]

    def _pass_on(self, ref: WeightsRef, found: dict[WeightsRef, dict[str, Tensor]]) -> None:
        """Add what its founder's weights are in a candidate, and in those before it: passed on along the line without
        training. Of a parent of another line nothing is taken, as a candidate is charged with one founder's age."""
        line: dict[str, Candidate] = {}
        waiting = [ref.candidate]
        while waiting:
            name = waiting.pop()
            known = WeightsRef(name, FOUNDING)
            if name not in line and known not in found and known not in self._kept:
                line[name] = self.journal.candidate(name)
                waiting += self._kin(line[name])
        for candidate in sorted(line.values(), key=lambda c: (c.generation, c.slot)):
            kin = self._kin(candidate)
            names = [WeightsRef(parent, FOUNDING) if parent in kin else None for parent in candidate.parents]
            sources = [{} if name is None else found[name] if name in found else self._kept[name] for name in names]
            document = document_of(candidate.document)
            own = sources or [self._founder(candidate)]
            first, fates = starting_weights(resolve(document.organism), document, own, candidate.origins)
            # what nobody had is left to the candidate's own draws
            passed = {path: first[path] for path in (*fates.copied, *fates.resized)}
            found[WeightsRef(candidate.id, FOUNDING)] = passed

    def _kin(self, candidate: Candidate) -> list[str]:
        """The parents of a candidate that come from the same seed as its first."""
        seeds = [seed_of(self.journal, parent) for parent in candidate.parents]
        return [parent for parent, seed in zip(candidate.parents, seeds, strict=True) if seed == seeds[0]]

    def _founder(self, seed: Candidate) -> dict[str, Tensor]:
        assert self.folder is not None, "a search without a directory is not begun warm"
        return load(read_founder(self.folder, seed.slot, self.founders[seed.slot]))

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
