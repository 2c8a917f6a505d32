"""The weights that seeds begin from in a search that is begun warm, in files of its own run directory. Torch-free."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic

FOLDER = "founders"
"""Of the files, in a run directory."""


class Founder(BaseModel):
    """Where the weights come from that a seed begins with.

    source: the variant they are of, as it was named. is_exact: whether they are as they were trained, or restored from
    a snapshot. offset: training steps along the line of first sources, so that training reads on. charge: what their
    training took, ancestors' included, in the unit of the search's budget. digest: SHA-256 of the file of weights.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    source: str
    is_exact: bool
    offset: int
    charge: float
    digest: str

    def __str__(self) -> str:
        kind = "exact weights" if self.is_exact else "snapshot"
        return f"{kind} of {self.source} after {self.offset:,} steps"


def write_founders(run: Path, weights: Sequence[bytes]) -> None:
    """Keep the seeds' weights, as safetensors in the order of the seeds, in a run directory."""
    for slot, data in enumerate(weights):
        write_atomic(_file(run, slot), data)


def read_founder(run: Path, slot: int, founder: Founder) -> bytes:
    """The weights that a seed begins from. Raises DiagnosticError where they are not those of the run (EVO600)."""
    file = _file(run, slot)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        data = b""
    if digest_of(data) != founder.digest:
        help = "put the file back from a copy: the run's variants begin from it"
        raise DiagnosticError([Diagnostic("EVO600", f"{file} is gone or damaged", None, help)])
    return data


def remove_founders(run: Path) -> None:
    """Remove all of them, and their folder where nothing else is in it."""
    folder = run / FOLDER
    if not folder.is_dir():
        return
    for file in folder.glob("*.safetensors"):
        file.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def digest_of(weights: bytes) -> str:
    """The name of some weights by content."""
    return hashlib.sha256(weights).hexdigest()


def _file(run: Path, slot: int) -> Path:
    return run / FOLDER / f"{slot:02d}.safetensors"
