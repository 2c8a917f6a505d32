"""Work on a second stream: it reads what was there when it was launched, and is done when joined."""

import pytest
import torch
from torch import Tensor

from evo.training.side_stream import HELD_BYTES, SideStream

COUNT, SIZE = 40, 1 << 20
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def sums_aside(side: SideStream, device: str) -> list[Tensor]:
    """The sums of tensors that are freed as soon as a piece was given them, each after a pause."""
    found = []
    for index in range(COUNT):
        x = torch.full((SIZE,), float(index), device=device)
        with side.launch(x):
            if device == "cuda":
                torch.cuda._sleep(100_000)
            found.append(x.sum())
        del x
    side.wait()
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_a_piece_reads_what_was_there(device: str) -> None:
    """Memory that a piece still reads is not given to what comes after it."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    found = sums_aside(SideStream(torch.device(device)), device)
    assert [float(x) for x in found] == [float(SIZE * index) for index in range(COUNT)]


@pytest.mark.gpu
@needs_gpu
def test_pieces_under_way_hold_little_memory() -> None:
    """However large what they read is, no more of it waits for them than is allowed."""
    side, size = SideStream(torch.device("cuda")), HELD_BYTES // 3
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(12):
        x = torch.zeros(size, dtype=torch.uint8, device="cuda")
        with side.launch(x):
            torch.cuda._sleep(1_000_000)
        del x
    assert torch.cuda.max_memory_allocated() - before < 1.5 * HELD_BYTES
    side.wait()


@pytest.mark.gpu
@needs_gpu
def test_pieces_are_captured_with_the_graph_they_leave() -> None:
    """In a CUDA graph they are a branch that joins, and every replay does them again."""
    aside, graph = SideStream(torch.device("cuda")), torch.cuda.CUDAGraph()
    sums_aside(aside, "cuda")
    with torch.cuda.graph(graph):
        total = torch.stack(sums_aside(aside, "cuda")).sum()
    for _ in range(2):
        total.detach().zero_()
        graph.replay()
        assert float(total) == SIZE * COUNT * (COUNT - 1) / 2
