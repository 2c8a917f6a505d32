"""A variant's weights, restored from its snapshot and its ancestors' into a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evo.archive.snapshot.record import SnapshotError
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.compiler.build import build
from evo.compiler.resolve import resolve
from evo.dsl.document import parse
from evo.dsl.task import Score
from evo.evolution.journal import Journal
from evo.evolution.lineage import Lineage
from evo.evolution.rundir import RunDirectory
from evo.tasks.base import open_task
from evo.training.checkpoint import Checkpoint, save_checkpoint
from evo.training.score import held_out_scores


@dataclass(frozen=True)
class Restored:
    """A variant's restored weights in a checkpoint. score: the primary score they have; trained_score: before."""

    checkpoint: Path
    candidate: str
    primary: Score
    score: float
    trained_score: float

    def to_data(self) -> dict[str, Any]:
        """As `evo snapshot restore --json` prints it."""
        name = self.primary.name
        scores = {name: self.score, f"trained_{name}": self.trained_score}
        return {"checkpoint": str(self.checkpoint), "candidate": self.candidate, **scores}


def restored(path: Path, id: str, out: Path, snapshot: bytes | None = None) -> Restored:
    """Write a variant's restored weights as a checkpoint, and measure its primary score.

    snapshot: what the variant's snapshot is taken to be; any if left out.

    Raises:
        DiagnosticError: no run (EVO600), or the run has no such variant with a snapshot, or another one (EVO602).
    """
    directory = RunDirectory(path)
    settings = directory.load()
    journal = Journal(directory.journal_file)
    try:
        lineage = Lineage(journal, settings, path)
        ref = lineage.latest(id)
        weights, trial = lineage.weights(ref), journal.trial(ref)
        evaluation = journal.evaluation(ref)
    except KeyError:
        raise DiagnosticError([Diagnostic("EVO602", f"{path} has no variant '{id}' with a snapshot")]) from None
    except SnapshotError as error:
        raise DiagnosticError([Diagnostic("EVO602", f"variant '{id}' of {path}: {error}")]) from None
    finally:
        journal.close()
    assert evaluation is not None
    if snapshot is not None and snapshot != evaluation.snapshot:
        message = f"this is not the snapshot of variant '{id}' of {path}, but one of another run"
        raise DiagnosticError([Diagnostic("EVO602", message, None, "put it back into the run that it comes from")])
    document = parse(trial.candidate.document).document
    task = open_task(document.train.task, Path(settings.root))
    model = build(resolve(document.organism), document.train.seed, "cpu", weights)
    steps = trial.steps
    save_checkpoint(out, Checkpoint(document, weights, steps, steps, task.digest, None, settings.root))
    tokens, precision = settings.budget.held_out_tokens, document.train.precision
    score = held_out_scores(model, task.sides()[0], document.context, tokens=tokens, precision=precision)[
        task.primary.name
    ]
    return Restored(out, id, task.primary, score, evaluation.scores[task.primary.name])
