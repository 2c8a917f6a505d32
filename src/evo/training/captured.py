"""The whole training step on the device: as one body that never waits for the host, and captured in a CUDA graph.

A block of steps is prepared at a time: what names each step's batch, and its share of the peak learning rate. The task
makes the batch on the device, a counter on the device says which step of the block is next, losses are kept on the
device until someone looks. So a replay needs nothing from the host, and reads exactly the batches of the plain loop.
"""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from evo.base.streams import Stream
from evo.blocks.companion import Companion
from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.compiler.organism import Losses, Organism
from evo.dsl.train import TrainSpec
from evo.tasks.base import DeviceSource, Task
from evo.training.device import autocast
from evo.training.device_updates import DeviceUpdate
from evo.training.half_weights import HalfWeights
from evo.training.optimizer import Optimizer
from evo.training.side_stream import SideStream

WARM_UPS = 2
"""Steps before a capture: kernels are compiled, tables built, workspaces made; their effect is undone."""


def recorded(losses: Losses, names: Sequence[str]) -> Tensor:
    """(1 + names,) float32: the task's loss, then each auxiliary one, without their graph. names: `Plan.losses`."""
    assert set(losses.auxiliary) == set(names), f"planned {sorted(names)}, found {sorted(losses.auxiliary)}"
    if not names:
        return losses.task.detach().view(1)
    return torch.stack([value.detach().float() for value in (losses.task, *(losses.auxiliary[n] for n in names))])


def step_seed(spec: TrainSpec, step: int) -> int:
    """What decides all that a step draws and drops: 31 bits, by the seed of the training and the step alone."""
    return Stream(spec.seed).child("draws", step).integer() & (2**31 - 1)


class DeviceStep:
    """Training steps in blocks of `block`, each the same sequence of launches on tensors that stay where they are.

    scale: a step's share of the peak learning rate. Weights and the optimizer's state are changed in place.
    """

    def __init__(
        self,
        model: Organism,
        source: DeviceSource,
        spec: TrainSpec,
        context: int,
        optimizer: Optimizer,
        scale: Callable[[int], float],
        offset: int = 0,
        block: int = 16,
        companion: Companion | None = None,
    ) -> None:
        self.model, self.source, self.spec, self.context = model, source, spec, context
        self.companion = companion
        self.scale, self.offset, self.block = scale, offset, block
        self.stream = Stream(spec.seed).child("data")
        device = self.device = next(model.parameters()).device
        self.side = SideStream(device)
        self.half = self._half_weights()
        copies = None if self.half is None or self.half.dtype != torch.bfloat16 else self.half.copies
        self.update = DeviceUpdate(optimizer, copies)
        self.addresses = self._addresses()
        self.drawn_S = torch.stack([self._draw_one(0)] * block).to(device)
        self.scales_S = torch.zeros(block, device=device)
        self.seeds_S = torch.zeros(block, dtype=torch.int64, device=device)
        self.losses_SL = torch.zeros(block, 1 + len(model.plan.losses), device=device)
        self.row = torch.zeros(1, dtype=torch.int64, device=device)
        self.first, self.next = 0, -1
        """The loaded block's first step, and the step that comes next in it."""
        self._ready: tuple[int, Tensor, Tensor] | None = None

    def begin(self) -> None:
        """Expect weights that someone else has changed."""
        self.next = -1

    def take(self, step: int) -> Tensor:
        """Carry out one step and return its losses, as `recorded` gives them; the next block overwrites them."""
        if step != self.next or step == self.first + self.block:
            self._load(step)
        self.launch()
        self.next = step + 1
        if self.next == self.first + self.block:  # drawn while the device works
            self._ready = self._draw(self.next)
        return self.losses_SL[step - self.first]

    def launch(self) -> None:
        """One step's work."""
        self.body()

    def body(self) -> None:
        """Make the batch, forward, backward, clip, update, note the losses, count."""
        batch = self.source.batch(self.drawn_S, self.row, self.context)
        with self.side.launch():
            scale = self.scales_S.index_select(0, self.row)
        seed_1 = self.seeds_S.index_select(0, self.row)
        for parameter in self.update.parameters:
            parameter.grad = None
        forgets = self.spec.activation_checkpointing
        flow = Flow(seed=seed_1[0], forgets_layers=forgets, has_fixed_shapes=True)
        if self.half is not None:
            flow.project = self.half
        if self.spec.dropout is not None:
            flow.dropout = Dropout(self.spec.dropout.rates(), seed_1)
        if self.half is not None:
            self.half.begin()
            if not self.update.renews_copies:
                self.half.refresh()
        with autocast(self.device, self.spec.precision):
            losses = self.model.losses(batch.inputs_BT, batch.targets_BT, batch.weights_BT, flow)
        if self.half is not None:
            self.half.end_forward()
        losses.total.backward()
        if self.half is not None:
            self.half.freeze_groups()
            self.half.collect()
        self.side.wait()
        if self.companion is not None:
            self.companion.note(losses.task.detach())
        with torch.no_grad():
            with self.side.launch():
                self.losses_SL.index_copy_(0, self.row, recorded(losses, self.model.plan.losses).view(1, -1))
                self.row.add_(1)
            self.update.apply(scale)
        self.side.wait()

    def flow(self) -> Flow:
        """How weights meet their inputs in these steps, with every half-precision copy as its weight is now."""
        if self.half is None:
            return Flow()
        self.half.begin()
        self.half.refresh()
        return Flow(project=self.half)

    def is_current(self) -> bool:
        """Whether weights and optimizer state are still the tensors that the steps change."""
        return self.addresses == self._addresses()

    def _addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.update.state()]

    def _half_weights(self) -> HalfWeights | None:
        if self.device.type != "cuda":
            return None
        with autocast(self.device, self.spec.precision):
            is_half, dtype = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        return HalfWeights(dtype, self.side) if is_half else None

    def _draw(self, first: int) -> tuple[int, Tensor, Tensor]:
        """The draws and scales of the block whose first step is `first`, in memory that the device can read."""
        steps = range(first, first + self.block)
        drawn_S = torch.stack([self._draw_one(step) for step in steps])
        scales_S = torch.tensor([self.scale(step) for step in steps])
        if self.device.type == "cuda":
            drawn_S, scales_S = drawn_S.pin_memory(), scales_S.pin_memory()
        return first, drawn_S, scales_S

    def _draw_one(self, step: int) -> Tensor:
        return self.source.draw(self.offset + step, self.spec.batch, self.context, self.stream)

    def _load(self, first: int) -> None:
        if self.half is not None:
            self.half.refresh()
        ready = self._ready if self._ready is not None and self._ready[0] == first else self._draw(first)
        self.first, drawn_S, scales_S = ready
        self.drawn_S.copy_(drawn_S, non_blocking=True)
        self.scales_S.copy_(scales_S, non_blocking=True)
        steps = range(first, first + self.block)
        self.seeds_S.copy_(torch.tensor([step_seed(self.spec, self.offset + step) for step in steps]))
        self.row.zero_()


class CapturedStep(DeviceStep):
    """The same steps as replays of one CUDA graph. `capture` comes first; it leaves weights and state alone."""

    graph: torch.cuda.CUDAGraph

    def capture(self) -> None:
        """Record the body. Raises what the body raises when the host must not look at the device."""
        noted = [] if self.companion is None else self.companion.tensors()
        state = [*self.update.state(), *self.model.buffers(), *noted]
        before = [tensor.detach().clone() for tensor in state]
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        try:
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self.body()
            torch.cuda.current_stream(self.device).wait_stream(side)
        finally:
            with torch.no_grad():
                torch._foreach_copy_([tensor.detach() for tensor in state], before)
            self.row.zero_()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device), torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.body()
        self.update.find_gradients()

    def launch(self) -> None:
        """Replay."""
        self.graph.replay()


def captured_step(
    model: Organism,
    task: Task,
    spec: TrainSpec,
    context: int,
    optimizer: Optimizer,
    scale: Callable[[int], float],
    offset: int,
    block: int,
    companion: Companion | None = None,
) -> tuple[CapturedStep | None, str]:
    """A captured step and how it came about; or None and why there is none."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return None, f"CUDA graphs need a CUDA device, found {device.type}"
    source = task.on_device(device)
    if source is None:
        return None, f"the batches of {task.name} are not made on the device"
    try:
        step = CapturedStep(model, source, spec, context, optimizer, scale, offset, block, companion)
        step.capture()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:  # TypeError: a rule of numbers only
        return None, f"the step cannot be captured: {_first_line(error)}"
    finally:
        for parameter in model.parameters():
            parameter.grad = None
    return step, "one CUDA graph, replayed"


def _first_line(error: BaseException) -> str:
    """What went wrong first: ending a capture that failed raises an error of its own."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
