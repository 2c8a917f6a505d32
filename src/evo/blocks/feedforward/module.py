"""Position-wise feed-forwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.activation.module import Activation
from evo.blocks.base import Block, Norm
from evo.blocks.feedforward.spec import DensePlan, GatedPlan
from evo.blocks.flow import Flow, State
from evo.dsl.plan import BlockPlan
from evo.kernels.convolution import plan as plan_convolution
from evo.kernels.convolution import short_convolution
from evo.kernels.dispatch import KernelCall
from evo.kernels.fused import ACTS, GATED, gated


class Units(Block):
    """Hidden units between two projections: their activation, and their norm if they have one."""

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block], word: str) -> None:
        super().__init__(plan, children)
        self.word = word

    @property
    def own_act(self) -> Activation | None:
        """An activation with settings, instead of the word."""
        act = self._modules.get("act")
        return act if isinstance(act, Activation) else None

    def normed(self, hidden_BTF: Tensor, flow: Flow) -> Tensor:
        """The hidden units as they are projected down."""
        norm = self._modules.get("inner_norm")
        return norm(hidden_BTF, flow) if isinstance(norm, Norm) else hidden_BTF


class HiddenGains(Block):
    """A learned number for each hidden channel."""

    gain: nn.Parameter

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., F) -> (..., F)."""
        del flow
        return x_BTD * self.gain.to(x_BTD.dtype)


@dataclass(frozen=True)
class UnitsState(State):
    """The hidden channels of the latest tokens before taps, (B, W - 1, F) of each projection that has some."""

    past: tuple[Tensor, ...]


class TappedUnits(Units, ABC):
    """The same, each of which may be made of several tokens."""

    tapped: tuple[str, ...] = ()
    """The projections that may have taps."""
    up_taps: nn.Parameter | None

    def __init__(self, plan: DensePlan | GatedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children, plan.act)
        self.taps, self.hidden = plan.taps, plan.hidden

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D); (B, T, D) with taps."""
        return self._units(x_BTD, None, flow)[0]

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> UnitsState:
        """Zeros, as before the first token."""
        assert self.taps is not None
        before = torch.zeros(batch, self.taps.size - 1, self.hidden, device=device, dtype=dtype)
        return UnitsState((before,) * len(self.tapped))

    def extend(self, x_BTD: Tensor, state: UnitsState, flow: Flow) -> tuple[Tensor, UnitsState]:
        """The next T positions."""
        y_BTD, past = self._units(x_BTD, state.past, flow)
        return y_BTD, UnitsState(past)

    def problems(self, x_BTD: Tensor, flow: Flow) -> list[KernelCall]:
        """The short convolutions of a parallel pass."""
        del flow
        hidden_BTF = x_BTD.new_empty(*x_BTD.shape[:-1], self.hidden)
        found = [getattr(self, f"{name}_taps") for name in self.tapped]
        return [plan_convolution(hidden_BTF, taps) for taps in found if taps is not None]

    @abstractmethod
    def _units(self, x_BTD: Tensor, past: tuple[Tensor, ...] | None, flow: Flow) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What it gives, and what its taps read at the latest tokens."""

    def convolved(
        self, hidden: list[Tensor], past: tuple[Tensor, ...] | None, flow: Flow
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Hidden channels of each projection as gains and taps leave them, and what these read at the latest tokens."""
        hidden = [self._gained(f"{name}_gain", x_BTF, flow) for name, x_BTF in zip(self.tapped, hidden, strict=True)]
        if self.taps is None:
            return hidden, ()
        found: list[Tensor] = []
        after: list[Tensor] = []
        for name, x_BTF, before in zip(self.tapped, hidden, past or (None,) * len(hidden), strict=True):
            y_BTF, kept = short_convolution(
                x_BTF,
                getattr(self, f"{name}_taps"),
                state_BWD=before,
                segments_BT=flow.segments_BT,
                backend=self.backend,
            )
            found.append(x_BTF + y_BTF if self.taps.residual else y_BTF)
            after.append(kept)
        return found, tuple(after)

    def _gained(self, name: str, x_BTF: Tensor, flow: Flow) -> Tensor:
        gains = self._modules.get(name)
        return gains(x_BTF, flow) if isinstance(gains, HiddenGains) else x_BTF


class Dense(TappedUnits):
    """down(act(up(x)))."""

    tapped = ("up",)
    up: nn.Parameter
    down: nn.Parameter
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def _units(self, x_BTD: Tensor, past: tuple[Tensor, ...] | None, flow: Flow) -> tuple[Tensor, tuple[Tensor, ...]]:
        (hidden_BTF,), after = self.convolved([flow.project(x_BTD, self.up, self.up_bias)], past, flow)
        hidden_BTF = ACTS[self.word](hidden_BTF) if self.own_act is None else self.own_act(hidden_BTF, flow)
        return flow.project(self.normed(hidden_BTF, flow), self.down, self.down_bias), after


class Gated(TappedUnits):
    """down(act(gate(x)) * up_act(up(x))) (Shazeer 2020)."""

    fused = (GATED,)
    tapped = ("gate", "up")
    gate_taps: nn.Parameter | None
    gate: nn.Parameter
    up: nn.Parameter
    down: nn.Parameter
    gate_bias: nn.Parameter | None
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def __init__(self, plan: GatedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.up_act = ACTS[plan.up_act or "identity"]
        if self.own_act is not None:
            self.fused = ()

    def _units(self, x_BTD: Tensor, past: tuple[Tensor, ...] | None, flow: Flow) -> tuple[Tensor, tuple[Tensor, ...]]:
        maps = ((self.gate, self.gate_bias), (self.up, self.up_bias))
        (gate_BTF, up_BTF), after = self.convolved([flow.project(x_BTD, *found) for found in maps], past, flow)
        up_BTF = self.up_act(up_BTF)
        if self.own_act is not None:
            hidden_BTF = self.own_act.gated(gate_BTF, up_BTF, flow)
        else:
            hidden_BTF = gated(gate_BTF, up_BTF, self.word, backend=self.fused_backend)
        return flow.project(self.normed(hidden_BTF, flow), self.down, self.down_bias), after
