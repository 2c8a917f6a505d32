"""`evo snapshot show|restore FILE`: the low-rank weights of a variant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.cli import view
from evo.cli.documents import Json

command = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look into, or restore, low-rank snapshots.",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="variant_07.safetensors of a run.")]


@command.command()
def show(file: File, as_json: Json = False) -> None:
    """Show method, rank and bytes of every tensor.

    And the measured loss.
    """
    from dataclasses import asdict

    from evo.archive.snapshot.summary import summarise

    summary = summarise(_read(file))
    if as_json:
        view.print_json("snapshot show", {"file": str(file), **asdict(summary)})
        return
    rows = [("tensor", "shape", "method", "rank", "bytes", "smaller")]
    for row in summary.rows:
        ratio = f"{row.fp32_bytes / row.nbytes:.1f}x" if row.nbytes else "-"
        shape = "x".join(map(str, row.shape))
        rows.append((row.name, shape, row.method, str(row.rank or "-"), f"{row.nbytes:,}", ratio))
    view.say(view.table(rows, left=3))
    view.say(
        f"\n{summary.nbytes:,} bytes, {summary.compression:.1f}x smaller than fp32; held-out bits per target "
        f"{summary.loss_trained:.4f}, {summary.loss_restored:.4f} restored "
        f"({summary.increase:+.2%}, tolerance {summary.tolerance:.0%})"
    )


@command.command()
def restore(
    file: File,
    out: Annotated[
        Path, typer.Option(help="The file to write: a checkpoint to `evo generate` from or `evo train` on.")
    ],
    as_json: Json = False,
) -> None:
    """Restore a variant's weights into a checkpoint and measure them.

    The file must stand in its run directory: a snapshot holds the change since inherited weights, so its ancestors are
    read from the journal.
    """
    from evo.evolution.restored import restored

    id = _read(file).metadata.get("candidate", "")
    found = restored(file.resolve().parent.parent, id, out, file.read_bytes())
    if as_json:
        view.print_json("snapshot restore", found.to_data())
        return
    view.say(
        f"{out}: variant {id}, {found.score:.4f} held-out {found.primary.label} "
        f"({found.trained_score:.4f} before the snapshot)"
    )


def _read(file: Path) -> Any:
    from evo.archive.snapshot.blob import from_bytes, read_blob
    from evo.archive.snapshot.record import SnapshotError

    try:
        return from_bytes(read_blob(file))
    except SnapshotError as error:
        raise DiagnosticError([Diagnostic("EVO602", f"{file}: {error}")]) from None
