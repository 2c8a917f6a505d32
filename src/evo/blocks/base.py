"""What every built block is: the parameters its plan lists, and for mixers a parallel and a continuing form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evo.dsl.plan import BlockPlan, Weight
from evo.kernels.dispatch import AUTO, Problem
from evo.kernels.operators import lasting_tensors


def parameter(weight: Weight) -> nn.Parameter:
    """An uninitialised parameter of the planned shape."""
    return nn.Parameter(torch.empty(weight.shape))


class Block(nn.Module):
    """One block of a plan. Registers exactly the plan's weights under their own names, and its children as given.

    optional: names of weights that a plan may leave out; they are None then.
    backend: which kernels run it: `auto`, or a backend's name, which is then never replaced silently.
    """

    optional: ClassVar[tuple[str, ...]] = ()
    backend: str = AUTO

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__()
        for name in self.optional:
            self.register_parameter(name, None)
        for weight in plan.weights:
            self.register_parameter(weight.name, parameter(weight))
        for name, child in children.items():
            self.add_module(name, child)


class State:
    """What a mixer keeps between two chunks of a sequence. Frozen dataclasses; `values` counts what they hold."""


class Mixer(Block, ABC):
    """A sequence mixer: position t of its output depends on positions up to t (unless its spec says otherwise)."""

    def problems(self, x_BTD: Tensor) -> list[Problem]:
        """The kernel problems that `forward` would pose for such an input (meta tensors do), in order."""
        del x_BTD
        return []

    @abstractmethod
    def forward(self, x_BTD: Tensor) -> Tensor:
        """All positions of a sequence that starts here, (B, T, D) -> (B, T, D)."""

    @abstractmethod
    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> State:
        """The state before the first token; `dtype` is that of the activations."""

    @abstractmethod
    def extend(self, x_BTD: Tensor, state: Any) -> tuple[Tensor, State]:
        """The next T >= 1 positions after `state`: (B, T, D), and the new state. Equals `forward` on the whole."""


class Position(Block):
    """How order enters a mixer's heads. As it is, it does nothing."""

    def rotate(self, q_BTHK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Queries and keys that stand at positions offset, offset + 1, ..., turned by position."""
        del offset
        return q_BTHK, k_BTGK

    def rotate_beside(
        self, q_BTHK: Tensor, k_BTGK: Tensor, v_BTGV: Tensor, offset: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`rotate`, and values as they are: all three in one call, for encodings whose backward gains by that."""
        return *self.rotate(q_BTHK, k_BTGK, offset), v_BTGV

    def slopes_H(self, like: Tensor) -> Tensor | None:
        """By how much scores of each head fall per token of distance, on the device of `like`; None for not at all."""
        del like
        return None


@dataclass
class Constant:
    """A tensor that follows from settings: kept in float64, handed out per device and dtype."""

    values: Tensor

    def __post_init__(self) -> None:
        self._ready: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def like(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The constant on the device of `x`, in its dtype or the one given."""
        key = (x.device, dtype or x.dtype)
        if key not in self._ready:
            with lasting_tensors():
                self._ready[key] = self.values.to(key[1]).to(key[0])
        return self._ready[key]


def compute_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 for float64 inputs."""
    return torch.promote_types(x.dtype, torch.float32)


def values(state: Any) -> int:
    """The number of floating-point values that a state keeps."""
    if isinstance(state, Tensor):
        return state.numel() if state.is_floating_point() else 0
    if is_dataclass(state):
        return sum(values(getattr(state, field.name)) for field in fields(state))
    return sum(values(item) for item in state) if isinstance(state, tuple) else 0


def sum_scaled(gains_ND: Tensor, xs_BTD: Sequence[Tensor]) -> Tensor:
    """sum_i gains[i] * xs[i], each (B, T, D)."""
    total = xs_BTD[0] * gains_ND[0]
    for gain_D, x_BTD in zip(gains_ND[1:], xs_BTD[1:], strict=True):
        total = torch.addcmul(total, x_BTD, gain_D)
    return total
