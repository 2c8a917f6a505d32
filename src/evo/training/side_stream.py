"""Work of a step that nothing soon waits for, on a second CUDA stream beside the step itself."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

LAG = 8
"""How many pieces may be under way: what they read stays in memory until they are done."""
HELD_BYTES = 1 << 28
"""How much they may hold together. Pieces that read more fill the device by themselves, and gain nothing by lagging."""


class SideStream:
    """A second stream. Each piece begins when all that was launched before it is done; `wait` waits for the last.

    Nothing made in a piece may be read before `wait`. In a CUDA graph the pieces become a branch of their own. Devices
    without streams do each piece where it stands.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._under_way: deque[tuple[torch.Event, tuple[Tensor, ...]]] = deque()

    @contextlib.contextmanager
    def launch(self, *reads: Tensor) -> Iterator[None]:
        """Launch what is in the block aside. `reads`: the tensors it reads that may be freed meanwhile."""
        if self.stream is None:
            yield
            return
        main = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            yield
        self._under_way.append((self.stream.record_event(), reads))
        while len(self._under_way) > LAG or self._held_bytes() > HELD_BYTES:
            main.wait_event(self._under_way.popleft()[0])

    def wait(self) -> None:
        """Let the current stream wait for every piece."""
        if self.stream is not None and self._under_way:
            torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)
            self._under_way.clear()

    def _held_bytes(self) -> int:
        """What the pieces that are under way hold."""
        return sum(x.numel() * x.element_size() for _, reads in self._under_way for x in reads)
