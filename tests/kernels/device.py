"""Where kernels are tested: on a CUDA device, or interpreted on the CPU; and what every such test needs."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from evo.kernels.triton_support import is_interpreting

DEVICE = "cpu" if is_interpreting() else "cuda"
RUNS_KERNELS = [
    pytest.mark.skipif(not is_interpreting() and not torch.cuda.is_available(), reason="needs a CUDA device"),
    *([] if is_interpreting() else [pytest.mark.gpu]),
]


Step = Callable[[], Sequence[Tensor]]


def poison() -> None:
    """Leave NaN in the memory that the next results will be given."""
    for elements in (1 << 10, 1 << 14, 1 << 18, 1 << 21):
        torch.full((elements,), float("nan"), device=DEVICE)


def replayed(step: Step, inputs: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """What a CUDA graph of `step` gives after its inputs were halved in place, and what the step itself gives then."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for x in inputs:
            x.mul_(0.5)
    graph.replay()
    return captured, step()
