"""The learning rate over a run: what each kind of schedule is called, what it reads, and what it means.

A scale is a pure function of the step, so that a resumed run continues exactly. Neither the first nor the last step is
wasted on a scale of zero.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from evo.dsl.genes import Gene
from evo.dsl.spec import Fault, Scope, Spec

Fraction = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Course:
    """The steps of a training that may be the beginning of a longer one.

    steps: of this training. first, whole: of the shortest and of the longest training of the same rungs.
    """

    steps: int
    first: int
    whole: int

    @classmethod
    def of(cls, steps: int) -> "Course":
        """A training without rungs."""
        return cls(steps, steps, steps)


class ScheduleSpec(Spec):
    """A learning rate over time."""

    @abstractmethod
    def scale(self, step: int, steps: int) -> float:
        """The share in (0, 1] of the peak learning rate at `step`, 0 <= step < steps; later steps count as the last."""

    def rate(self, step: int, course: Course) -> float:
        """The share at a step of a training with rungs: here that of the longest one, which all others begin."""
        return self.scale(step, course.whole)

    def shared(self, course: Course) -> int:
        """How many steps of a training have the same rates in every longer one of its rungs, which goes on there."""
        return course.steps


class WarmedUpSchedule(ScheduleSpec):
    """A schedule that begins with a linear warm-up; its kinds say what follows."""

    warmup: Annotated[Fraction, Gene(0.0, 0.3, "linear")] = 0.1
    """Share of the steps that the rate takes to rise."""

    def scale(self, step: int, steps: int) -> float:
        """See `ScheduleSpec.scale`."""
        return self.scale_after(math.ceil(self.warmup * steps), step, steps)

    def scale_after(self, warmup_steps: int, step: int, steps: int) -> float:
        """The same with a warm-up of so many steps."""
        step = min(step, steps - 1)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return self.after_warmup(step, steps, warmup_steps)

    @abstractmethod
    def after_warmup(self, step: int, steps: int, warmup_steps: int) -> float:
        """The share of the peak at a step that is not part of the warm-up."""


class WsdSchedule(WarmedUpSchedule):
    """Warm-up, a long stable part, and a linear decay to zero."""

    kind: ClassVar[str | None] = "wsd"

    decay: Annotated[Fraction, Gene(0.1, 0.9, "linear")] = 0.4
    """Share of the steps, at the end, that the rate takes to fall."""

    def problems(self, scope: Scope) -> Iterator[Fault]:
        """Parts that are longer together than the whole."""
        del scope
        if self.warmup + self.decay > 1:
            yield Fault("EVO342", (), "warmup and decay together exceed the whole of training", "lower one of them")

    def rate(self, step: int, course: Course) -> float:
        """Each training decays at its own end, after the warm-up of the shortest: a branch off the stable part."""
        return self.scale_after(self._warmup_steps(course), step, course.steps)

    def shared(self, course: Course) -> int:
        """The stable part, which a longer training goes on with, undecayed."""
        return course.steps - self._decay_steps(course.steps, self._warmup_steps(course))

    def after_warmup(self, step: int, steps: int, warmup_steps: int) -> float:
        """Stay, then decay linearly (MiniCPM, arXiv 2404.06395; linear as in Hägele et al., arXiv 2405.18392)."""
        return min(1.0, (steps - step) / (self._decay_steps(steps, warmup_steps) + 1))

    def _warmup_steps(self, course: Course) -> int:
        return math.ceil(self.warmup * course.first)

    def _decay_steps(self, steps: int, warmup_steps: int) -> int:
        return min(math.ceil(self.decay * steps), steps - warmup_steps)


class CosineSchedule(WarmedUpSchedule):
    """Warm-up and half a cosine."""

    kind: ClassVar[str | None] = "cosine"

    floor: Annotated[Fraction, Gene(0.0, 0.3, "linear")] = 0.1
    """The rate at the end, as a share of the peak."""

    def after_warmup(self, step: int, steps: int, warmup_steps: int) -> float:
        """From 1 towards `floor`, which it would reach one step after the last (SGDR, arXiv 1608.03983)."""
        progress = (step - warmup_steps) / (steps - warmup_steps)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class ConstantSchedule(WarmedUpSchedule):
    """Warm-up and then the peak rate."""

    kind: ClassVar[str | None] = "constant"

    def after_warmup(self, step: int, steps: int, warmup_steps: int) -> float:
        """The peak."""
        return 1.0
