"""Training that goes on from a file of weights: a checkpoint, or the snapshot of a run's variant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from evo.archive.snapshot.blob import from_bytes, read_blob
from evo.archive.snapshot.record import SnapshotError
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import exact_or, is_exact, run_of
from evo.compiler.adapters import merged
from evo.compiler.resolve import resolve
from evo.compiler.transplant import WeightTransfer, transplant
from evo.dsl.document import Document
from evo.dsl.paths import stage_path
from evo.evolution.restored import restored
from evo.training.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Start:
    """The first weights of an organism, and how many of its numbers another one's are. source: where those are."""

    source: Path
    weights: dict[str, Tensor]
    transfer: WeightTransfer

    def describe(self) -> str:
        """What came of it, in a sentence."""
        told = f"{self.transfer.values:,} of {self.transfer.parameters:,} parameters start from {self.source}"
        return f"{told}; {len(self.transfer.fresh)} weights are new"


def started(document: Document, source: Path) -> Start:
    """A document's first weights from those of a file, adapters merged, as far as paths and shapes are alike.

    Raises:
        DiagnosticError: the file is neither a checkpoint nor a variant's snapshot (EVO602), or no weight of its
            stages has a place in the document's organism (EVO609).
    """
    saved, plan = _saved(source), resolve(document.organism)
    weights, transfer = transplant(plan, document.train.seed, merged(saved.document, saved.weights)[1])
    inside = {path for stage in plan.stages for path, _ in stage.named_weights(stage_path(stage.name))}
    if inside.isdisjoint((*transfer.copied, *transfer.resized)):
        help = "`evo diff` shows how the two differ; weights go by the names of stages and layers"
        raise DiagnosticError(
            [Diagnostic("EVO609", f"no weight of the stages of {source} has a place here", None, help)]
        )
    return Start(source, weights, transfer)


def _saved(source: Path) -> Checkpoint:
    """What a file holds, a snapshot restored. Raises as `begun`."""
    if run_of(source.resolve()) is None:
        return load_checkpoint(source)
    with TemporaryDirectory() as folder:
        begun(source, Path(folder))
        return load_checkpoint(Path(folder) / FILE)


def begun(source: Path, folder: Path) -> tuple[Document, Path]:
    """Put a checkpoint of a file's weights into a folder, for `TrainingRun.open` to go on from.

    A checkpoint is copied, with its optimizer's state; of a variant's snapshot the weights are restored, or taken as
    they were trained where the run keeps them, and the optimizer begins afresh. A checkpoint in its own folder stays as
    it is.

    Returns:
        The document, and the folder that relative corpus paths start from.

    Raises:
        DiagnosticError: another checkpoint is there (EVO601), or the file is neither (EVO602).
    """
    file = folder / FILE
    if file.exists() and file.resolve() != source.resolve():
        help = "--out names another folder"
        raise DiagnosticError([Diagnostic("EVO601", f"{file} exists", None, help)])
    run = run_of(source.resolve())
    source = exact_or(source)
    if run is None or is_exact(source):
        saved = load_checkpoint(source)
        if file.resolve() != source.resolve():
            save_checkpoint(file, saved)
    else:
        try:
            id = from_bytes(read_blob(source)).metadata.get("candidate", "")
        except SnapshotError as error:
            raise DiagnosticError([Diagnostic("EVO602", f"{source}: {error}")]) from None
        restored(run, id, file, source.read_bytes())
        saved = load_checkpoint(file)
    return saved.document, Path(saved.root)
