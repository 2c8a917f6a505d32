"""`evo bench kernels`: our kernels beside the best public ones, on the same inputs, in one run, behind a proof."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from evo.bench.kernels_cases import Case, cases
from evo.bench.kernels_compile import compile_all
from evo.bench.kernels_notes import notes
from evo.bench.kernels_proof import proof
from evo.bench.kernels_timing import Timing, refusal, timings
from evo.bench.tables import markdown, write_table

ERROR_BOUND = 0.03
TITLE = "Kernels beside the best public ones"


@dataclass(frozen=True)
class Row:
    """One case; a missing timing says why in `note`. `error`: ours against float64, worst of value and gradients.

    NaN where ours is, or where it could not be proven.
    """

    name: str
    peer: str
    error: float
    ours: tuple[Timing | None, Timing | None]
    theirs: tuple[Timing | None, Timing | None]
    note: str = ""

    def cells(self) -> list[str]:
        shown = [self.name, self.peer, f"{self.error:.1e}"]
        for mine, other in zip(self.ours, self.theirs, strict=True):
            ratio = f"{other.median / mine.median:.2f}x" if mine and other else "-"
            shown += [str(mine or "-"), str(other or "-"), ratio]
        return [*shown, self.note]


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


def run(out_dir: Path, only: Sequence[str] = ()) -> str:
    """Time every case (or those whose name starts with one of `only`), write `kernels.md`, return the table.

    Needs a CUDA device with triton; flash-linear-attention where installed. The file is written after every row.
    """
    chosen = [case for case in cases() if not only or case.name.startswith(tuple(only))]
    compile_all([case.name for case in chosen])
    command = " ".join(["evo bench kernels", *(f"--only '{name}'" for name in only)])
    rows, table = [HEADING], ""
    for case in chosen:
        rows.append(measure(case).cells())
        torch.cuda.empty_cache()
        print(" | ".join(rows[-1]), flush=True)
        table = markdown(rows)
        write_table(out_dir / "kernels.md", TITLE, command, table)
    for line in () if only else notes():
        print(line, flush=True)
        table = f"{table}\n\n{line}"
        write_table(out_dir / "kernels.md", TITLE, command, table)
    return table


def measure(case: Case) -> Row:
    """Prove, then time. A case whose proof fails is not timed."""
    torch.manual_seed(0)
    try:
        error = proof(case)
    except Exception as failure:  # it is printed in its row, and the other cases are measured
        return _not_timed(case, math.nan, refusal("proof", failure))
    if not error < ERROR_BOUND:
        return _not_timed(case, error, "wrong")
    inputs = [x.requires_grad_() for x in case.make(*case.shape)]
    ours, note = timings(case.ours, inputs, case.graph)
    try:
        theirs, their_note = timings(case.peer(), inputs, case.graph)
    except ImportError as missing:
        theirs, their_note = (None, None), f"peer not installed ({missing.name})"
    return Row(case.name, case.peer_name, error, ours, theirs, "; ".join(filter(None, (note, their_note))))


def _not_timed(case: Case, error: float, why: str) -> Row:
    return Row(case.name, case.peer_name, error, (None, None), (None, None), f"{why}: not timed")
