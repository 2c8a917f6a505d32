"""Timing one operation on a GPU: forward, forward and backward, launched or as a CUDA graph's replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timing:
    """Milliseconds: median, and the 20th and 80th percentile."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


def timings(call: Callable[..., Tensor], inputs: list[Tensor], graph: bool):
    """Forward, forward and backward; and a note on what failed, since a peer may refuse a problem on this machine."""
    try:
        gradient = torch.randn_like(call(*inputs))
    except Exception as failure:  # a peer's refusal is a result of this benchmark, and is printed in its row
        return (None, None), refusal("forward", failure)

    def forward() -> None:
        with torch.no_grad():
            call(*inputs)

    def both() -> None:
        torch.autograd.grad(call(*inputs), inputs, gradient)

    found, notes = [], []
    for name, step in (("forward", forward), ("f+b", both)):
        try:
            found.append(timing(captured(step) if graph else step))
        except Exception as failure:  # as above
            found.append(None)
            notes.append(refusal(name, failure))
    return (found[0], found[1]), "; ".join(notes)


def refusal(what: str, failure: Exception) -> str:
    """What failed, and the first line of why."""
    reason = str(failure).partition("\n")[0][:80]
    return f"{what}: {type(failure).__name__}{reason and f': {reason}'}"


def timing(step: Callable[[], object]) -> Timing:
    from triton.testing import do_bench

    times: Any = do_bench(step, warmup=20, rep=100, quantiles=[0.2, 0.5, 0.8])
    low, median, high = times
    return Timing(median, low, high)


def captured(step: Callable[[], object]) -> Callable[[], None]:
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
