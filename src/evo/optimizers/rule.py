"""What every optimizer's rule is: one functional step of a group of parameters, on the device alone.

Nothing on the way is read by the host, so a step can be captured in a CUDA graph; all is elementwise or by matrix over
the last two dimensions, so parameters of many models may be stacked in front.
"""

# pyright: reportPrivateImportUsage=false
# torch exports its foreach functions under a leading underscore only.

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

State = dict[str, Tensor]
"""What a rule keeps of one parameter, by name."""


@dataclass(frozen=True)
class Rule(ABC):
    """How the parameters of one group are updated. A frozen value: all that changes lies in the states.

    lr: the peak learning rate; a step is told its own.
    """

    lr: float

    @abstractmethod
    def init(self, parameter: Tensor) -> State:
        """The state before the first step, on the parameter's device."""

    @abstractmethod
    def step(self, parameters: list[Tensor], gradients: list[Tensor], states: list[State], lr: Tensor | float) -> None:
        """Update parameters and states in place. lr: a number, or a float32 scalar on the device."""

    def spectral_step(self, rows: int, columns: int) -> float:
        """About the spectral norm of an update of a (rows, columns) matrix at a rate of 1.

        Here that of a matrix whose entries are all 1 or -1 and which has few directions, as a gradient has.
        """
        return math.sqrt(rows * columns)

    def scaled(self, factor: float) -> Rule:
        """The same rule at another rate; what decays in a step stays as it was."""
        return replace(self, lr=self.lr * factor)

    def fuse(self, groups: Sequence[Group], clip: float | None) -> FusedStep | None:
        """All groups' update and the clipping of all gradients to the norm `clip` in one; None where there is none.

        Asked of the first group's rule. States may be moved to other tensors on the way.
        """
        del groups, clip
        return None


@dataclass(frozen=True)
class Group:
    """Parameters under one rule, with their states."""

    rule: Rule
    parameters: list[Tensor]
    states: list[State]


class FusedStep(Protocol):
    """A step of all groups in a few launches that find the tensors by their addresses."""

    def point_at(self, gradients: Sequence[Tensor], copies: Mapping[Tensor, Tensor] | None = None) -> None:
        """Look up where all lies now; gradients in the order of the groups' parameters.

        copies: by parameter, a half-precision tensor that every step brings up to it.
        """
        ...

    def let_go(self) -> None:
        """Hold the gradients no longer: before the next step, they are pointed at again."""
        ...

    def launch(self, lr_G: Tensor) -> None:
        """One step at a learning rate a group, float32."""
        ...

    def gradient_norm(self) -> Tensor | None:
        """Of all gradients at the last step, before they were clipped; None where nothing is clipped."""
        ...


def zeros(parameter: Tensor) -> Tensor:
    """Zeros laid out like a parameter."""
    return torch.zeros_like(parameter, memory_format=torch.preserve_format)


def decay(parameters: list[Tensor], rate: Tensor | float) -> None:
    """Decoupled weight decay in place: p = p (1 - rate), where rate is lr * weight_decay."""
    torch._foreach_mul_(parameters, 1 - rate)


def descend(parameters: list[Tensor], directions: list[Tensor], lr: Tensor | float) -> None:
    """p = p - lr d in place; the directions, in the parameters' dtype, are spent."""
    if isinstance(lr, Tensor):
        torch._foreach_mul_(directions, lr)
        torch._foreach_sub_(parameters, directions)
    else:
        torch._foreach_add_(parameters, directions, alpha=-lr)
