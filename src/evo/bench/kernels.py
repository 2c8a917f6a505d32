"""`evo bench kernels`: our kernels beside the best public ones, on the same inputs, in one run, behind a check."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from evo.bench.kernels_cases import Case, cases
from evo.bench.kernels_check import largest_error
from evo.bench.kernels_compile import compile_all
from evo.bench.kernels_notes import notes
from evo.bench.kernels_table import Report, Row
from evo.bench.kernels_timing import refusal, timings
from evo.bench.tables import write_table

ERROR_BOUND = 0.03
PATIENCE_S = 90.0
"""How long is waited for compilations before the cases whose are done are timed."""
TITLE = "Kernels beside the best public ones"


def run(path: Path, only: Sequence[str] = ()) -> Report:
    """Time every case (or those whose name starts with one of `only`), write the table, return what was found.

    Needs a CUDA device with triton; flash-linear-attention and Liger Kernel where installed. The file is written after
    every row, and the row told on stderr.
    """
    chosen = [case for case in cases() if not only or case.name.startswith(tuple(only))]
    command = " ".join(["evo bench kernels", *(f"--only '{name}'" for name in only)])
    report = Report([], [])

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        write_table(path, TITLE, command, report.to_markdown())

    left, patience_s = chosen, PATIENCE_S
    while left:
        slow = compile_all([case.name for case in left], patience_s)
        for case in (case for case in left if case.name not in slow):
            report.rows.append(measure(case))
            torch.cuda.empty_cache()
            tell(" | ".join(report.rows[-1].cells()))
        left, patience_s = [case for case in left if case.name in slow], None
    for note in () if only else notes():
        report.notes.append(note)
        tell(str(note))
    return report


def check_names(only: Sequence[str]) -> None:
    """Raise ValueError for a name that begins no case's."""
    names = [case.name for case in cases()]
    for wanted in only:
        if not any(name.startswith(wanted) for name in names):
            raise ValueError(f"no case begins with '{wanted}'; cases: {', '.join(names)}")


def measure(case: Case) -> Row:
    """Check, then time. A case that fails its check is not timed."""
    torch.manual_seed(0)
    try:
        error = largest_error(case)
    except Exception as failure:  # it is printed in its row, and the other cases are measured
        return _not_timed(case, math.nan, refusal("check", failure))
    if not error < ERROR_BOUND:
        return _not_timed(case, error, "wrong")
    inputs = [x.requires_grad_() for x in case.make(*case.shape)]
    ours, note = timings(case.ours, inputs, case.graph)
    try:
        theirs, their_note = timings(case.peer(), inputs, case.graph)
    except ImportError as missing:
        theirs, their_note = (None, None), f"peer not installed ({missing.name})"
    except Exception as failure:  # as above
        theirs, their_note = (None, None), refusal("peer", failure)
    return Row(case.name, case.peer_name, error, ours, theirs, "; ".join(filter(None, (note, their_note))))


def _not_timed(case: Case, error: float, why: str) -> Row:
    return Row(case.name, case.peer_name, error, (None, None), (None, None), f"{why}: not timed")
