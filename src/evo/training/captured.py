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

from evo.base.causes import first_cause
from evo.base.memory import no_collection
from evo.blocks.companion import Companion
from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.compiler.organism import Losses, Organism
from evo.dsl.train import TrainSpec
from evo.tasks.base import DeviceSource, Task
from evo.training.device import autocast
from evo.training.device_block import DeviceBlock
from evo.training.device_updates import DeviceUpdate
from evo.training.half_weights import HalfWeights
from evo.training.optimizer import Optimizer
from evo.training.side_stream import SideStream

WARM_UPS = 2
"""Steps before a capture: kernels are compiled, tables built, workspaces made; their effect is undone."""
RESERVED_BYTES = 1 << 30
"""Above this a warm-up gives back what the allocator keeps: the next one cuts it up otherwise, and reserves more."""


def recorded(losses: Losses, names: Sequence[str]) -> Tensor:
    """(1 + names,) float32: the task's loss, then each auxiliary one, without their graph. names: `Plan.losses`."""
    assert set(losses.auxiliary) == set(names), f"planned {sorted(names)}, found {sorted(losses.auxiliary)}"
    if not names:
        return losses.task.detach().view(1)
    return torch.stack([value.detach().float() for value in (losses.task, *(losses.auxiliary[n] for n in names))])


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
        self.model, self.spec = model, spec
        self.companion = companion
        device = self.device = next(model.parameters()).device
        self.block = DeviceBlock(source, spec, context, scale, offset, block, len(model.plan.losses), device)
        self.side = SideStream(device)
        self.half = self._half_weights()
        copies = None if self.half is None or self.half.dtype != torch.bfloat16 else self.half.copies
        self.update = DeviceUpdate(optimizer, copies)
        self.addresses = self._addresses()

    def begin(self) -> None:
        """Expect weights that someone else has changed."""
        self.block.next = -1

    def take(self, step: int) -> Tensor:
        """Carry out one step and return its losses, as `recorded` gives them; the next block overwrites them."""
        if not self.block.is_at(step):
            if self.half is not None:
                self.half.refresh()
            self.block.load(step)
        self.launch()
        return self.block.advance(step)

    def launch(self) -> None:
        """One step's work."""
        self.body()

    def body(self) -> None:
        """Make the batch, forward, backward, clip, update, note the losses, count."""
        batch, scale, seed_1 = self.block.batch(), self.block.launched_scale(self.side), self.block.seed_1()
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
            self.companion.note(losses.task.detach(), self.side.launch)
        with torch.no_grad():
            with self.side.launch():
                self.block.note(recorded(losses, self.model.plan.losses))
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


class CapturedStep(DeviceStep):
    """The same steps as replays of one CUDA graph. `capture` comes first; it leaves weights and state alone."""

    graph: torch.cuda.CUDAGraph

    def capture(self) -> None:
        """Record the body. Raises what the body raises when the host must not look at the device."""
        noted = [] if self.companion is None else self.companion.tensors()
        changed = [*self.update.state(), *self.model.buffers(), *noted, self.block.row]
        self.graph = captured(self.body, changed, self.update.let_go, self.device)
        self.update.find_gradients()

    def launch(self) -> None:
        """Replay."""
        self.graph.replay()


def captured(
    body: Callable[[], None], changed: Sequence[Tensor], let_go: Callable[[], None], device: torch.device
) -> torch.cuda.CUDAGraph:
    """A step's launches as a CUDA graph.

    changed: all that the step changes and the next reads; left as it is here. let_go: frees what steps before the
    capture have made: the graph has memory of its own, to which all that is held beside it is lost.

    Raises what `body` raises when the host must not look at the device.
    """
    before = [tensor.detach().clone() for tensor in changed]
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                body()
                if torch.cuda.memory_reserved(device) > RESERVED_BYTES:
                    torch.cuda.empty_cache()
        torch.cuda.current_stream(device).wait_stream(side)
    finally:
        with torch.no_grad():
            torch._foreach_copy_([tensor.detach() for tensor in changed], before)
    del before
    let_go()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), no_collection(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        body()
    return graph


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
        return None, f"the step cannot be captured: {first_cause(error)}"
    finally:
        for parameter in model.parameters():
            parameter.grad = None
    return step, "one CUDA graph, replayed"
