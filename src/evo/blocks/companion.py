"""What lives beside the steps of a training: it watches every step on the device, and acts between some of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from evo.base.streams import Stream

Event = Mapping[str, Any]
"""What happened between two steps, as plain data for a line of metrics: its `step`, its `event`, and more."""

Aside = Callable[..., AbstractContextManager[None]]
"""Launches what is in the block beside what follows, until the step ends. It is given the tensors that are read there
and may be freed meanwhile."""


@contextmanager
def in_turn(*reads: Tensor) -> Iterator[None]:
    """An `Aside` for steps that have none: what is in the block comes first."""
    del reads
    yield


@dataclass(frozen=True)
class Surroundings:
    """What a companion has to do with.

    states: what the optimizer keeps of each parameter, by path and name; tensors of a parameter's shape may be changed
    in place, as may the parameters. row: tokens (1, T) of a step's batch, on the host or the device. draw: a parameter
    as it would begin, by path, from a stream. steps: of the whole training.
    """

    model: nn.Module
    states: Mapping[str, Mapping[str, Tensor]]
    row: Callable[[int], Tensor]
    draw: Callable[[str, Stream], Tensor]
    steps: int
    stream: Stream


class Companion(ABC):
    """Changes parameters and optimizer state in place between steps, never their shapes or places."""

    every: int
    """How many steps lie between two looks."""

    def is_due(self, step: int) -> bool:
        """Whether `between` is to be called after `step` steps."""
        return step % self.every == 0

    @abstractmethod
    def note(self, loss: Tensor, aside: Aside = in_turn) -> None:
        """See the task's loss (a scalar) and the gradients of a step, before they are clipped and used.

        On the device alone: the host does not wait, and all that changes is in `tensors`, in place. What reads neither
        parameters nor gradients, which the update behind it changes, may be done `aside`.
        """

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """What `note` changes."""

    @abstractmethod
    def between(self, step: int) -> list[Event]:
        """Act after `step` steps, where `is_due`; a function of the training so far and nothing else. Only where it
        tells of something may it have changed weights."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that later steps depend on, by name."""

    @abstractmethod
    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Go on from a state. Raises ValueError where it is not one of this companion."""

    def relieve(self, step: int) -> list[Event]:
        """Let go of something, because a step found no memory; empty where there is nothing to let go of."""
        del step
        return []

    def warnings(self) -> list[str]:
        """What is to be said at the end, a sentence each."""
        return []

    def figures(self) -> dict[str, float]:
        """Numbers to be told with the scores, by name."""
        return {}
