"""Trainings of one plan as one: their weights lie in stacks, and one forward and backward pass serves them all.

Small models leave a device idle: a step of many costs little more than a step of one. Each member keeps its own data,
draws, learning rates, clipping and optimizer, whose parameters are the member's entries of the stacks; only the passes
through the model are common, by `torch.func.vmap`. Nothing of one member reaches another, so each ends where it would
have ended alone, up to the rounding of sums that a batched product makes in another order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.compiler.organism import Organism
from evo.dsl.train import TrainSpec
from evo.dsl.tree import replaced
from evo.kernels.fused.adamw import ALIGNMENT
from evo.tasks.base import Batch
from evo.training.captured import recorded
from evo.training.device import autocast
from evo.training.device_block import DeviceBlock
from evo.training.device_updates import DeviceUpdate
from evo.training.loop import GUARD_EVERY, BudgetError, DivergedError, Progress, Trainer
from evo.training.side_stream import SideStream

PAYS_BELOW_FLOPS = 5e7
"""Of one member's step on a CPU: above, its products fill a core, and stacks only move memory. Three members of 3e7
each took 0.84 of their time alone, of 1e8 each 1.2 of it. On a GPU captured steps one after another are faster at any
size: results/bench/stacked_h200.md."""

OnStep = Callable[[Progress], None]


class StackError(Exception):
    """Trainings cannot be stacked; the message says why."""


def pays(spec: TrainSpec, step_flops: float, device: torch.device | str) -> bool:
    """Whether stacking trainings whose steps cost so much each is worth it on a device.

    A rule of the document and the kind of device alone, so that every run of a search stacks the same.
    """
    can = spec.life is None and not spec.activation_checkpointing and torch.device(device).type == "cpu"
    return can and step_flops < PAYS_BELOW_FLOPS


class Stack:
    """Trainers of equal plans and steps, prepared to be run together.

    From here on the parameters of their models are views of stacks, (members, ...). They may differ in seed, offset,
    optimizer, schedule and clipping.

    Raises:
        StackError: they differ in more, have companions, or their steps cannot be stacked; they are not on a CPU.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        _require_alike(trainers)
        self.trainers = list(trainers)
        try:
            self.step = StackedStep(self.trainers)
            self.step.prepare()
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            lines = (str(error).strip() or type(error).__name__).splitlines()
            raise StackError(f"the step cannot be stacked: {lines[0]}") from error

    def run(
        self,
        until: int | None = None,
        on_steps: Sequence[OnStep | None] | None = None,
        max_seconds: float | None = None,
    ) -> list[DivergedError | None]:
        """Train all up to step `until`, the end by default; of each, why it failed, if it did. A failed member is
        carried along and told no more.

        Raises:
            BudgetError: `max_seconds` are over.
        """
        first, failures = self.trainers[0], list[DivergedError | None]([None] * len(self.trainers))
        listeners = list(on_steps) if on_steps is not None else [None] * len(self.trainers)
        for trainer in self.trainers:
            trainer.model.train()
        started, tokens = time.perf_counter(), 0
        end = first.steps if until is None else min(until, first.steps)
        while first.step < end and not all(failures):
            losses_ML = self._step()
            tokens += first.spec.batch * first.context
            for member, trainer in enumerate(self.trainers):
                if failures[member] is None:
                    failures[member] = _told(trainer, losses_ML[member], tokens, started, listeners[member])
            if max_seconds is not None and time.perf_counter() - started > max_seconds:
                raise BudgetError(f"training took more than {max_seconds:g} s")
        for member, trainer in enumerate(self.trainers):
            try:
                trainer.require_finite()
            except DivergedError as error:
                failures[member] = failures[member] or error
        return failures

    def _step(self) -> list[Tensor]:
        """One step of all. Between two, their weights, optimizers and steps agree."""
        for trainer in self.trainers:
            trainer.is_consistent = False
        losses_ML = self.step.take(self.trainers[0].step)
        for trainer in self.trainers:
            trainer.step += 1
            trainer.is_consistent = True
        return losses_ML


def _told(
    trainer: Trainer, losses: Tensor, tokens: int, started: float, on_step: OnStep | None
) -> DivergedError | None:
    try:
        progress = trainer.progress(trainer.look(losses, tokens), started)
    except DivergedError as error:
        return error
    if on_step is not None:
        on_step(progress)
    return None


def common(spec: TrainSpec) -> TrainSpec:
    """What members of a stack have in common, as a spec: all but seeds and the settings of their updates."""
    own = ("seed", "optimizer", "schedule", "clip", "rates", "steps", "budget")
    usual = TrainSpec()
    return replaced(spec, {(name,): getattr(usual, name) for name in own})


def _require_alike(trainers: Sequence[Trainer]) -> None:
    first = trainers[0]
    if first.device.type != "cpu":
        raise StackError(f"captured steps one after another are faster on {first.device.type}")
    if any(trainer.companion is not None for trainer in trainers):
        raise StackError("a companion watches each training alone")
    if first.spec.activation_checkpointing:
        raise StackError("layers are computed again when the stacked pass is over")
    for trainer in trainers[1:]:
        if trainer.model.plan != first.model.plan:
            raise StackError("the plans differ")
        if common(trainer.spec) != common(first.spec) or trainer.context != first.context:
            raise StackError("more than seeds and the settings of updates differs")
        if (trainer.step, trainer.steps, trainer.device) != (first.step, first.steps, first.device):
            raise StackError("their steps are not the same ones")
        if trainer.task.digest != first.task.digest:
            raise StackError("the tasks differ")


class StackedStep:
    """One step of all members: their batches, one pass forward and back, and their updates."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        first = trainers[0]
        self.model, self.spec, self.device = first.model, first.spec, first.device
        source = first.task.on_device(self.device)
        if source is None:
            raise ValueError(f"the batches of {first.task.name} are not made on the device")
        self.side, names = SideStream(self.device), len(first.model.plan.losses)
        self.blocks = [
            DeviceBlock(source, t.spec, t.context, t.rate, t.offset, GUARD_EVERY, names, self.device) for t in trainers
        ]
        self.parameters = [dict(trainer.model.named_parameters()) for trainer in trainers]
        self.stacks = {path: _stack([own[path] for own in self.parameters]) for path in self.parameters[0]}
        self.updates = [DeviceUpdate(trainer.optimizer) for trainer in trainers]
        for trainer, update in zip(trainers, self.updates, strict=True):
            trainer.update = update
        self.one = _Pass(self.model, self.spec)

    def prepare(self) -> None:
        """See that a step can be taken. Weights and state stay."""
        self._differentiate([block.batch() for block in self.blocks])

    def take(self, step: int) -> list[Tensor]:
        """Carry out one step; the losses of each member as `recorded` gives them."""
        for block in self.blocks:
            if not block.is_at(step):
                block.load(step)
        self.body()
        return [block.advance(step) for block in self.blocks]

    def body(self) -> None:
        """Make the batches, forward, backward, and for each member clip, update, note its losses and count."""
        scales = [block.launched_scale(self.side) for block in self.blocks]
        found_ML = self._differentiate([block.batch() for block in self.blocks])
        self.side.wait()
        with torch.no_grad():
            for member, (block, update, scale) in enumerate(zip(self.blocks, self.updates, scales, strict=True)):
                block.note(found_ML[member])
                update.apply(scale)

    def _differentiate(self, batches: Sequence[Batch]) -> Tensor:
        """The losses of all members, (M, L), and each member's gradients in its parameters' `grad`."""
        for stack in self.stacks.values():
            stack.grad = None
        inputs_MBT = torch.stack([batch.inputs_BT for batch in batches])
        targets_MBT = torch.stack([batch.targets_BT for batch in batches])
        weights = [batch.weights_BT for batch in batches if batch.weights_BT is not None]
        weights_MBT = torch.stack(weights) if weights else None
        seeds_M1 = torch.stack([block.seed_1() for block in self.blocks])
        each = torch.func.vmap(self._of_one, in_dims=(0, 0, 0, None if weights_MBT is None else 0, 0))
        with autocast(self.device, self.spec.precision):
            total_M, found_ML = each(self.stacks, inputs_MBT, targets_MBT, weights_MBT, seeds_M1)
        total_M.sum().backward()
        for path, stack in self.stacks.items():
            for member, own in enumerate(self.parameters):
                own[path].grad = None if stack.grad is None else _aligned(stack.grad[member])
        return found_ML.detach()

    def _of_one(self, weights: Mapping[str, Tensor], *batch: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(self.one, {f"model.{path}": own for path, own in weights.items()}, batch)


class _Pass(nn.Module):
    """What a member minimises, and its losses as `recorded` gives them, by whatever weights the model has."""

    def __init__(self, model: Organism, spec: TrainSpec) -> None:
        super().__init__()
        self.model, self.rates = model, None if spec.dropout is None else spec.dropout.rates()

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor, weights_BT: Tensor | None, seed_1: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and targets (B, T), what each target counts, and the step's seed; a scalar and (L,)."""
        dropout = None if self.rates is None else Dropout(self.rates, seed_1)
        flow = Flow(seed=seed_1[0], dropout=dropout, has_fixed_shapes=True)
        losses = self.model.losses(inputs_BT, targets_BT, weights_BT, flow)
        return losses.total, recorded(losses, self.model.plan.losses)


@torch.no_grad()
def _stack(members: Sequence[nn.Parameter]) -> Tensor:
    """The values of parameters as one leaf, (members, ...), whose entries the parameters are from here on.

    Entries begin where fused updates want a tensor to begin.
    """
    first = members[0]
    count, grain = first.numel(), ALIGNMENT // first.element_size()
    rows = torch.empty(len(members), -(-count // grain) * grain, dtype=first.dtype, device=first.device)
    stack = rows[:, :count].view(len(members), *first.shape)
    for entry, own in zip(stack, members, strict=True):
        entry.copy_(own)
        own.data = entry
    return stack.requires_grad_(first.requires_grad)


def _aligned(x: Tensor) -> Tensor:
    return x.clone() if x.data_ptr() % ALIGNMENT else x
