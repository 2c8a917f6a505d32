"""The training loop: batches, schedule, clipping, a guard against divergence, and progress for whoever watches."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from evo.base.memory import is_out_of_memory
from evo.base.streams import Stream
from evo.blocks.companion import Event
from evo.blocks.dropout import Dropout
from evo.blocks.flow import Flow
from evo.blocks.transfer import Arriving
from evo.compiler.organism import Losses, Organism
from evo.dsl.schedules import Course
from evo.dsl.train import TrainSpec
from evo.tasks.base import Task
from evo.training.captured import CapturedStep, captured_step, recorded
from evo.training.companions import companion_of
from evo.training.device import autocast
from evo.training.device_block import step_seed
from evo.training.device_updates import DeviceUpdate
from evo.training.optimizer import Optimizer

GUARD_EVERY = 16
"""Steps between two looks at the loss on an accelerator, where what is seen has to come to the host."""
RHYTHMS = {"cpu": (1, 0), "cuda": (GUARD_EVERY, 1)}
"""By device: the steps between two looks, and how many looks may be on their way: while the host waits for one, the
device has the steps up to the next."""

MODES = ("auto", "captured", "eager")


class DivergedError(Exception):
    """The loss is no longer a finite number."""


class BudgetError(Exception):
    """The time allowed is over."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    loss: the task's, in nats per target. seconds: since the loop began. auxiliary: by name what blocks add to the loss,
    already weighed. rate: of the step, as a share of the peak learning rate. gradient_norm: of the whole gradient
    before clipping; None where nothing is clipped. events: what a companion did since the last look.
    """

    step: int
    steps: int
    loss: float
    tokens: int
    seconds: float
    auxiliary: Mapping[str, float] = field(default_factory=dict[str, float])
    rate: float = math.nan
    gradient_norm: float | None = None
    events: tuple[Event, ...] = ()

    @property
    def tokens_per_second(self) -> float:
        """Throughput so far."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Look:
    """A look on its way to the host. step: how many were taken. seen: `losses`, as `recorded` gives them, and the
    `norm` of the gradient where it is known."""

    step: int
    tokens: int
    rate: float
    events: tuple[Event, ...]
    seen: Arriving


class Trainer:
    """One training run that can stop and go on: model, optimizer, and the number of the next step.

    `offset` shifts which batches are drawn: a child that starts from its parent's weights goes on reading where its
    ancestry stopped. `course` is for a training with rungs, in place of `steps`. `mode` is how steps are carried out:
    `captured` replays one CUDA graph, `eager` launches every operation, `auto` captures where that works; `step_mode`
    and `step_reason` say what came of it.
    The same seed gives the same bytes on the same hardware.
    """

    def __init__(
        self,
        model: Organism,
        task: Task,
        spec: TrainSpec,
        *,
        steps: int | None = None,
        course: Course | None = None,
        offset: int = 0,
        mode: str = "auto",
    ):
        if steps is None and course is None and spec.budget is not None:
            raise ValueError("how many steps a budget is depends on the document: give them")
        self.model, self.task, self.spec = model, task, spec
        self.course = course or Course.of(spec.steps if steps is None else steps)
        self.context = spec.context or model.plan.context
        self.device = next(model.parameters()).device
        trained = model.plan.trained
        self.optimizer = Optimizer(
            {path: parameter for path, parameter in model.named_parameters() if path in trained},
            trained,
            spec.optimizer,
            spec.clip,
            spec.rates,
            model.plan.width,
        )
        self.stream = Stream(spec.seed).child("data")
        self.offset, self.step = offset, 0
        self.companion = companion_of(spec.life, model, self.optimizer, self.course.whole, spec.seed, self._row)
        self.events: list[Event] = []
        """What the companion did and nobody has been told of."""
        self.is_consistent = True
        """Whether weights, optimizer and step agree: false only while a step is being applied."""
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
        self.mode, self.step_reason = mode, "asked for" if mode == "eager" else "no step has been prepared"
        self._is_refused = False
        self.captured: CapturedStep | None = None
        """The steps that `run` replays; None before `prepare`, and where steps are eager."""
        self.update: DeviceUpdate | None = None
        """What updates the weights on the device; None where `optimizer.step` does."""

    @property
    def steps(self) -> int:
        """How many there are in all."""
        return self.course.steps

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at a step; later steps count as the last."""
        return self.spec.schedule.rate(min(step, self.steps - 1), self.course)

    @property
    def step_mode(self) -> str:
        """`captured` or `eager`."""
        return "eager" if self.captured is None else "captured"

    def prepare(self) -> None:
        """Capture a step, unless the one there is still fits or none is wanted. `run` does so on its own.

        Raises RuntimeError if captured steps were asked for and cannot be had.
        """
        if self.mode == "eager" or self._is_refused:
            return
        if self.captured is not None and self.captured.is_current():
            self.captured.begin()
            return
        self.model.train()
        self.captured, self.step_reason = captured_step(
            self.model, self.task, self.spec, self.context, self.optimizer,
            self.rate, self.offset, GUARD_EVERY, self.companion,
        )  # fmt: skip
        self._is_refused = self.captured is None
        self.update = None if self.captured is None else self.captured.update
        if self._is_refused and self.mode == "captured":
            raise RuntimeError(self.step_reason)

    def flow(self) -> Flow:
        """The flow of a training pass without dropout: how weights meet their inputs in the steps that there are."""
        return Flow() if self.captured is None else self.captured.flow()

    def run(
        self,
        until: int | None = None,
        on_step: Callable[[Progress], None] | None = None,
        max_seconds: float | None = None,
    ) -> float:
        """Train up to step `until` (the end by default) and return the task's last loss in nats per target.

        Raises:
            DivergedError: a loss, or a weight at the end, is not finite.
            BudgetError: `max_seconds` are over.
        """
        self.model.train()
        self.prepare()
        started, tokens, loss = time.perf_counter(), 0, float("nan")
        end = self.steps if until is None else min(until, self.steps)
        every, behind = RHYTHMS[self.device.type]
        looks = deque[Look]()

        def tell(most: int) -> None:
            nonlocal loss
            while len(looks) > most:
                progress = self.progress(looks[0], started)  # whoever stops this here has the look told yet
                looks.popleft()
                loss = progress.loss
                if on_step is not None:
                    on_step(progress)
                if max_seconds is not None and progress.seconds > max_seconds:
                    raise BudgetError(f"training took more than {max_seconds:g} s")

        try:
            while self.step < end:
                losses = self._step()
                tokens += self.spec.batch * self.context
                if self.step % every == 0 or self.step == end:
                    looks.append(self.look(losses, tokens))
                tell(behind)
        except KeyboardInterrupt:  # who stops here may save, and then has all that led here
            tell(0)
            raise
        tell(0)
        self.require_finite()
        return loss

    def look(self, losses: torch.Tensor, tokens: int) -> Look:
        """Look at the step that was just taken, with these losses, as `recorded` gives them. It waits for nothing."""
        norm = self.optimizer.gradient_norm if self.update is None else self.update.gradient_norm()
        seen = {"losses": losses} if norm is None else {"losses": losses, "norm": norm}
        return Look(self.step, tokens, self.rate(self.step - 1), self.take_events(), Arriving(seen))

    def progress(self, look: Look, started: float) -> Progress:
        """Where the run stood at a look, as soon as the device was there. started: the run, by `time.perf_counter`.

        Raises:
            DivergedError: a loss is not finite.
        """
        seen = look.seen.wait()
        loss, *auxiliary = seen["losses"].tolist()
        named = dict(zip(self.model.plan.losses, auxiliary, strict=True))
        for name, value in {"loss": loss, **{f"loss '{name}'": value for name, value in named.items()}}.items():
            if not math.isfinite(value):
                raise DivergedError(f"the {name} became {value} at step {look.step} of {self.steps}")
        seconds, norm = time.perf_counter() - started, float(seen["norm"]) if "norm" in seen else None
        return Progress(look.step, self.steps, loss, look.tokens, seconds, named, look.rate, norm, look.events)

    def require_finite(self) -> None:
        """End a part of the training: the model scores from here on. Raises DivergedError for a weight that is not
        finite."""
        self.model.eval()
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise DivergedError(f"a weight is no finite number after step {self.step} of {self.steps}")

    def losses(self, step: int) -> Losses:
        """What one step minimises, with its graph."""
        seed_1 = torch.tensor([step_seed(self.spec, self.offset + step)], device=self.device)
        rates = self.spec.dropout
        dropout = None if rates is None else Dropout(rates.rates(), seed_1)
        flow = Flow(seed=seed_1[0], dropout=dropout, forgets_layers=self.spec.activation_checkpointing)
        batch = self.task.batch(self.offset + step, self.spec.batch, self.context, self.stream).to(self.device)
        with autocast(self.device, self.spec.precision):
            return self.model.losses(batch.inputs_BT, batch.targets_BT, batch.weights_BT, flow)

    def _step(self) -> torch.Tensor:
        """One step's losses, as `recorded` gives them."""
        if self.captured is None:
            return self._eager_step()
        self.is_consistent = False
        found = self.captured.take(self.step)
        self._advance()
        return found

    def _eager_step(self) -> torch.Tensor:
        losses = self._differentiated()
        self.is_consistent = False
        if self.companion is not None:
            self.companion.note(losses.task.detach())
        self.optimizer.step(self.rate(self.step))
        self._advance()
        return recorded(losses, self.model.plan.losses)

    def _differentiated(self) -> Losses:
        """The step's losses, with the gradients of all in place; once more where memory ran out and the companion can
        let go of something."""
        for may_retry in (self.companion is not None, False):
            try:
                self.model.zero_grad(set_to_none=True)
                losses = self.losses(self.step)
                losses.total.backward()
                return losses
            except (RuntimeError, MemoryError) as error:
                if not (may_retry and is_out_of_memory(error) and self._relieve()):
                    raise
        raise AssertionError("the second try returns or raises")

    def _relieve(self) -> bool:
        """Whether the companion let go of something, and what the device keeps in reserve was given back."""
        assert self.companion is not None
        events = self.companion.relieve(self.step)
        self.events += events
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return bool(events)

    def _advance(self) -> None:
        """Count a step, and let the companion act behind it if it is time."""
        self.step += 1
        if self.companion is not None and self.companion.is_due(self.step):
            events = self.companion.between(self.step)
            self.events += events
            if events and self.captured is not None:
                self.captured.begin()
        self.is_consistent = True

    def take_events(self) -> tuple[Event, ...]:
        """What the companion did and nobody has been told of yet."""
        events, self.events = tuple(self.events), []
        return events

    def _row(self, step: int) -> torch.Tensor:
        """One row of a step's batch, tokens (1, T)."""
        return self.task.batch(self.offset + step, 1, self.context, self.stream).inputs_BT
