"""`ladder.json`: what came of each training, written as it ends, so that a ladder that was stopped goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evo.base.diagnostics import Diagnostic, DiagnosticError
from evo.base.files import write_atomic

FILE = "ladder.json"
VERSION = 1
"""Of the file. One of another version is refused."""


@dataclass(frozen=True)
class Scored:
    """What came of a training: its primary score, or the cause of its failure. seconds: of wall time."""

    score: float | None
    cause: str = ""
    seconds: float = 0.0


class Records:
    """The file of one ladder: trainings by key, and beside them what was concluded."""

    def __init__(self, file: Path) -> None:
        """Read what is there. Raises DiagnosticError for a file that no ladder wrote, or another version (EVO600)."""
        self.file = file
        self.by_key: dict[str, Scored] = {}
        if file.exists():
            self.by_key = _read(file)

    def add(self, key: str, scored: Scored) -> None:
        """Record a training, on disk before this returns."""
        self.by_key[key] = scored
        self.write({})

    def write(self, told: dict[str, Any]) -> None:
        """Write all trainings, and what is told of them."""
        trainings = {key: asdict(scored) for key, scored in self.by_key.items()}
        data = {"evo_ladder": VERSION, **told, "trainings": trainings}
        write_atomic(self.file, json.dumps(data, indent=1, allow_nan=False) + "\n")


def _read(file: Path) -> dict[str, Scored]:
    try:
        data = json.loads(file.read_bytes())
        found = data["evo_ladder"]
        if found != VERSION:
            raise ValueError(f"its version is {found}, and this evo reads version {VERSION}")
        return {key: Scored(**row) for key, row in data["trainings"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        help = "--out names another folder"
        raise DiagnosticError([Diagnostic("EVO600", f"{file} is no ladder's: {error}", None, help)]) from None
