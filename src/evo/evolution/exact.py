"""The best variants' weights as they were trained, in checkpoints beside the snapshots.

A snapshot is close to what it was taken from; these are it. They are kept for a few variants only, and the journal
cannot write them again. Ranks are those of finished generations, so which are kept does not depend on the order in
which trials end, nor on interruptions.
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load

from evo.base.rundirs import exact_beside, is_exact
from evo.evolution.candidate import Candidate
from evo.evolution.documents import document_of
from evo.evolution.fitness import Bar
from evo.evolution.journal import Journal
from evo.evolution.rundir import RunDirectory
from evo.evolution.scoring import Scoring
from evo.evolution.settings import Settings
from evo.evolution.standings import Standing, Standings
from evo.evolution.trial import Trial
from evo.training.checkpoint import Checkpoint, save_checkpoint


class ExactWeights:
    """The checkpoints of the `count` best variants of a run directory; of none where there is no directory."""

    def __init__(self, settings: Settings, directory: RunDirectory | None, journal: Journal, scoring: Scoring) -> None:
        self.settings, self.directory, self.journal, self.scoring = settings, directory, journal, scoring
        self.count = settings.evolve.keep_exact if directory is not None else 0
        self._leading: list[Standing] = []

    def note(self, standings: Standings) -> None:
        """Learn the ranks at the end of a generation."""
        if self.count:
            self._leading = standings.leading(self.count + 1)

    def bar(self, trial: Trial) -> Bar | None:
        """What a trial has to clear to be among the best so far; None where it cannot be."""
        if not self.count or trial.repeat:
            return None
        others = [own for own in self._leading if own.id != trial.candidate.id]
        if len(others) < self.count or trial.rung > others[self.count - 1].trial.rung:
            return Bar()
        last = others[self.count - 1]
        if trial.rung < last.trial.rung:
            return None
        return Bar(last.objective, self.scoring.reference(trial.rung), self.scoring.weights)

    def put(self, trial: Trial, weights: bytes) -> None:
        """Write a variant's weights; without any, what a trial at a lower rung left goes."""
        if not self.count or trial.repeat:
            return
        file = self._file(trial.candidate)
        if not weights:
            file.unlink(missing_ok=True)
            return
        document, steps = document_of(trial.candidate.document), trial.steps
        digest, root = self.settings.task_digest, self.settings.root
        save_checkpoint(file, Checkpoint(document, load(weights), steps, steps, digest, None, root))

    def prune(self) -> None:
        """Remove the weights of those that are no longer among the best."""
        if self.directory is None or not self.count:
            return
        kept = {self._file(self.journal.candidate(own.id)) for own in self._leading[: self.count]}
        for folder in self.directory.folders():
            for file in folder.iterdir():
                if is_exact(file) and file not in kept:
                    file.unlink()

    def _file(self, candidate: Candidate) -> Path:
        assert self.directory is not None
        return exact_beside(self.directory.variant(candidate))
