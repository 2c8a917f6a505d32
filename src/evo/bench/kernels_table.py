"""What `evo bench kernels` found: a row a case and lines below them, as a table and as data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from evo.bench.kernels_timing import Timing
from evo.bench.tables import markdown

HEADING = [
    "case",
    "peer",
    "error",
    "ours fwd ms",
    "peer fwd ms",
    "ratio",
    "ours f+b ms",
    "peer f+b ms",
    "ratio",
    "note",
]
PASSES = ("forward", "forward_backward")

Pair = tuple[Timing | None, Timing | None]
"""Of a forward pass, and of a forward and a backward one."""


@dataclass(frozen=True)
class Row:
    """One case; a missing timing says why in `note`. `error`: ours against float64, worst of value and gradients.

    NaN where ours is, or where it could not be checked.
    """

    name: str
    peer: str
    error: float
    ours: Pair
    theirs: Pair
    note: str = ""

    def cells(self) -> list[str]:
        """As text, one cell a column of `HEADING`."""
        shown = [self.name, self.peer, f"{self.error:.1e}"]
        for mine, other, ratio in self._passes():
            shown += [str(mine or "-"), str(other or "-"), f"{ratio:.2f}x" if ratio else "-"]
        return [*shown, self.note]

    def to_data(self) -> dict[str, Any]:
        """As JSON; what is missing, or not a number, is null."""
        passes = {
            name: {"ours_ms": mine and asdict(mine), "peer_ms": other and asdict(other), "ratio": ratio}
            for name, (mine, other, ratio) in zip(PASSES, self._passes(), strict=True)
        }
        error = self.error if math.isfinite(self.error) else None
        return {"name": self.name, "peer": self.peer, "error": error, **passes, "note": self.note}

    def _passes(self) -> Iterator[tuple[Timing | None, Timing | None, float | None]]:
        """Ours, the peer's, and how many times ours theirs takes: above 1 is in our favour."""
        for mine, other in zip(self.ours, self.theirs, strict=True):
            yield mine, other, other.median / mine.median if mine and other else None


@dataclass(frozen=True)
class Note:
    """A line below the table, and its numbers: times are milliseconds, all others ratios."""

    name: str
    text: str
    numbers: dict[str, Timing | float]

    def __str__(self) -> str:
        return self.text

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        numbers = {key: asdict(x) if isinstance(x, Timing) else x for key, x in self.numbers.items()}
        return {"name": self.name, **numbers}


@dataclass(frozen=True)
class Report:
    """All of it, in the order in which it was measured."""

    rows: list[Row]
    notes: list[Note]

    def to_markdown(self) -> str:
        """The table, and a paragraph for each note."""
        return "\n\n".join([markdown([HEADING, *(row.cells() for row in self.rows)]), *map(str, self.notes)])

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        return {"rows": [row.to_data() for row in self.rows], "notes": [note.to_data() for note in self.notes]}
