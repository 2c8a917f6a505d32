"""Whether a process can still use its GPU: each of those that it has used is asked."""

from __future__ import annotations

import sys

import pytest

from evo.engines.device import is_lost


class TwoDevices:
    """What torch is like with two GPUs, the first of which is the current one. used: those with memory. broken: the one
    whose kernel faulted."""

    def __init__(self, used: tuple[int, ...], broken: int | None) -> None:
        self.cuda, self.used, self.broken = self, used, broken
        self.asked: list[int] = []

    def is_initialized(self) -> bool:
        """As it is after a tensor was made."""
        return True

    def device_count(self) -> int:
        """Both."""
        return 2

    def memory_stats(self, index: int) -> dict[str, int]:
        """Counted by the allocator, without a context."""
        return {"allocation.all.allocated": 3} if index in self.used else {}

    def synchronize(self, index: int = 0) -> None:
        """Fails on the broken one alone, and makes a context on any other."""
        self.asked.append(index)
        if index == self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(("used", "broken", "lost"), [((1,), 1, True), ((0,), 0, True), ((0, 1), None, False)])
def test_every_gpu_that_was_used_is_asked(
    monkeypatch: pytest.MonkeyPatch, used: tuple[int, ...], broken: int | None, lost: bool
) -> None:
    """A training on cuda:1 leaves cuda:0 the current device, which a fault of the other does not reach."""
    monkeypatch.setitem(sys.modules, "torch", TwoDevices(used, broken))
    assert is_lost() == lost


def test_no_other_gpu_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A context there would cost memory."""
    torch = TwoDevices((0,), None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert not is_lost()
    assert set(torch.asked) == {0}
