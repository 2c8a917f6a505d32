"""`evo bench kernels`: our kernels beside the best public ones, on the same inputs, in one run, behind a proof."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evo.bench.kernels_cases import Case, cases, normal
from evo.bench.kernels_compile import compile_all
from evo.bench.kernels_proof import proof
from evo.bench.tables import markdown, write_table

ERROR_BOUND = 0.03
COMMAND = "evo bench kernels"


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median, and the 20th and 80th percentile."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True)
class Row:
    """One case; a missing timing says why in `note`. `error`: ours against float64, worst of value and gradients."""

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


def run(out_dir: Path, only: Iterable[str] = ()) -> str:
    """Time every case (or those whose name starts with one of `only`), write `kernels.md`, return the table.

    Needs a CUDA device with triton; flash-linear-attention where installed. The file is written after every row.
    """
    only = tuple(only)
    chosen = [case for case in cases() if not only or case.name.startswith(only)]
    compile_all([case.name for case in chosen])
    rows = [HEADING]
    for case in chosen:
        rows.append(measure(case).cells())
        torch.cuda.empty_cache()
        print(" | ".join(rows[-1]), flush=True)
        write_table(out_dir / "kernels.md", "Kernels beside the best public ones", COMMAND, markdown(rows))
    table = markdown(rows)
    with contextlib.suppress(ImportError):
        table = f"{table}\n\n{probe_share()}"
    write_table(out_dir / "kernels.md", "Kernels beside the best public ones", COMMAND, table)
    return table


def measure(case: Case) -> Row:
    """Prove, then time. A case whose proof fails is not timed."""
    torch.manual_seed(0)
    error = proof(case)
    if not error < ERROR_BOUND:
        return Row(case.name, case.peer_name, error, (None, None), (None, None), "wrong: not timed")
    inputs = [x.requires_grad_() for x in case.make(*case.shape)]
    ours, note = timings(case.ours, inputs, case.graph)
    try:
        theirs, their_note = timings(case.peer(), inputs, case.graph)
    except ImportError as missing:
        theirs, their_note = (None, None), f"peer not installed ({missing.name})"
    return Row(case.name, case.peer_name, error, ours, theirs, "; ".join(filter(None, (note, their_note))))


def timings(call: Callable[..., Tensor], inputs: list[Tensor], graph: bool):
    """Forward, forward and backward; and a note on what failed, since a peer may refuse a problem on this machine."""
    gradient = torch.randn_like(call(*inputs))

    def forward() -> None:
        with torch.no_grad():
            call(*inputs)

    def both() -> None:
        torch.autograd.grad(call(*inputs), inputs, gradient)

    found, notes = [], []
    for name, step in (("forward", forward), ("f+b", both)):
        try:
            found.append(timing(captured(step) if graph else step))
        except Exception as failure:  # a peer's refusal is a result of this benchmark, and is printed in its row
            found.append(None)
            notes.append(f"{name}: {type(failure).__name__}: {str(failure).splitlines()[0][:80]}")
    return (found[0], found[1]), "; ".join(notes)


def timing(step: Callable[[], object]) -> Timing:
    from triton.testing import do_bench

    times: Any = do_bench(step, warmup=20, rep=100, quantiles=[0.2, 0.5, 0.8])
    low, median, high = times
    return Timing(median, low, high)


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """The step as a CUDA graph's replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def probe_share(every: int = 10) -> str:
    """What the probe costs beside the forward and backward pass of plain attention, when it runs every tenth step."""
    from evo.kernels.attention import Stencil, attend, probe

    q, k, v = (normal(8, 2048, 16, 64).requires_grad_() for _ in range(3))
    (_, both), _ = timings(lambda *x: attend(*x, stencil=Stencil()), [q, k, v], False)
    cost = timing(lambda: probe(q, k, stencil=Stencil(), row_stride=16))
    whole = timing(lambda: probe(q, k, stencil=Stencil(), row_stride=1))
    share = cost.median / (every * both.median)
    return (
        f"Probe (8, 2048, 16, 64) causal: every 16th row {cost} ms, every row {whole} ms, attention f+b {both} ms; "
        f"at every {every}th step {share:.2%} of f+b."
    )
