"""A block of steps on the device: what names each step's batch, its share of the peak rate, its seed, and its losses.

The host prepares a block at a time; a counter on the device says which of its steps is next. So the launches of a step
are the same for each, and need nothing from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.dsl.train import TrainSpec
from evo.tasks.base import Batch, DeviceSource
from evo.training.side_stream import SideStream


def step_seed(spec: TrainSpec, step: int) -> int:
    """What decides all that a step draws and drops: 31 bits, by the seed of the training and the step alone."""
    return Stream(spec.seed).child("draws", step).integer() & (2**31 - 1)


class DeviceBlock:
    """`size` steps of one training, loaded again and again.

    scale: a step's share of the peak learning rate. names: how many auxiliary losses are noted beside the task's.
    """

    def __init__(
        self,
        source: DeviceSource,
        spec: TrainSpec,
        context: int,
        scale: Callable[[int], float],
        offset: int,
        size: int,
        names: int,
        device: torch.device,
    ) -> None:
        self.source, self.spec, self.context = source, spec, context
        self.scale, self.offset, self.size, self.device = scale, offset, size, device
        self.stream = Stream(spec.seed).child("data")
        self.drawn_S = torch.stack([self._draw_one(0)] * size).to(device)
        self.scales_S = torch.zeros(size, device=device)
        self.seeds_S = torch.zeros(size, dtype=torch.int64, device=device)
        self.losses_SL = torch.zeros(size, 1 + names, device=device)
        self.row = torch.zeros(1, dtype=torch.int64, device=device)
        self.first, self.next = 0, -1
        """The loaded block's first step, and the step that comes next in it."""
        self._ready: tuple[int, Tensor, Tensor, Tensor] | None = None

    def is_at(self, step: int) -> bool:
        """Whether a step is the next one of the loaded block."""
        return step == self.next and step != self.first + self.size

    def load(self, first: int) -> None:
        """Load the block whose first step is `first`."""
        ready = self._ready if self._ready is not None and self._ready[0] == first else self._draw(first)
        self.first, drawn_S, scales_S, seeds_S = ready
        self.drawn_S.copy_(drawn_S, non_blocking=True)
        self.scales_S.copy_(scales_S, non_blocking=True)
        self.seeds_S.copy_(seeds_S, non_blocking=True)
        self.row.zero_()

    def advance(self, step: int) -> Tensor:
        """Count a step that has been launched, and give its losses; the next block overwrites them."""
        self.next = step + 1
        if self.next == self.first + self.size:  # drawn while the device works
            self._ready = self._draw(self.next)
        return self.losses_SL[step - self.first]

    def batch(self) -> Batch:
        """The next step's."""
        return self.source.batch(self.drawn_S, self.row, self.context)

    def seed_1(self) -> Tensor:
        """What the next step draws by."""
        return self.seeds_S.index_select(0, self.row)

    def note(self, losses_L: Tensor) -> None:
        """Keep the losses of the step, which is over."""
        self.losses_SL.index_copy_(0, self.row, losses_L.view(1, -1))
        self.row.add_(1)

    def launched_scale(self, side: SideStream) -> Tensor:
        """The next step's share of the peak rate, looked up aside."""
        with side.launch():
            return self.scales_S.index_select(0, self.row)

    def _draw(self, first: int) -> tuple[int, Tensor, Tensor, Tensor]:
        """Draws, scales and seeds of the block whose first step is `first`, in memory that the device can read."""
        steps = range(first, first + self.size)
        drawn_S = torch.stack([self._draw_one(step) for step in steps])
        scales_S = torch.tensor([self.scale(step) for step in steps])
        seeds_S = torch.tensor([step_seed(self.spec, self.offset + step) for step in steps])
        if self.device.type == "cuda":
            drawn_S, scales_S, seeds_S = drawn_S.pin_memory(), scales_S.pin_memory(), seeds_S.pin_memory()
        return first, drawn_S, scales_S, seeds_S

    def _draw_one(self, step: int) -> Tensor:
        return self.source.draw(self.offset + step, self.spec.batch, self.context, self.stream)
