"""Training that goes on from a file of weights: a checkpoint, or the snapshot of a run's variant."""

from __future__ import annotations

from pathlib import Path

from evo.archive.snapshot.blob import from_bytes, read_blob
from evo.archive.snapshot.record import SnapshotError
from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.rundirs import run_of
from evo.dsl.document import Document
from evo.evolution.restored import restored
from evo.training.checkpoint import load_checkpoint, save_checkpoint
from evo.training.run import FILE


def begun(source: Path, folder: Path) -> tuple[Document, Path]:
    """Put a checkpoint of a file's weights into a folder, for `TrainingRun.open` to go on from.

    A checkpoint is copied, with its optimizer's state; of a snapshot the weights are restored, and the optimizer begins
    afresh. A checkpoint in its own folder stays as it is.

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
    if run is None:
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
