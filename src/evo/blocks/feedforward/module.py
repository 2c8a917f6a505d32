"""Position-wise feed-forwards."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.activation.module import Activation
from evo.blocks.base import Block, Norm
from evo.blocks.feedforward.spec import DensePlan, GatedPlan
from evo.blocks.flow import Flow
from evo.kernels.fused import ACTS, GATED, gated


class Units(Block):
    """Hidden units between two projections: their activation, and their norm if they have one."""

    def __init__(self, plan: DensePlan | GatedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.word = plan.act

    @property
    def own_act(self) -> Activation | None:
        """An activation with settings, instead of the word."""
        act = self._modules.get("act")
        return act if isinstance(act, Activation) else None

    def normed(self, hidden_BTF: Tensor, flow: Flow) -> Tensor:
        """The hidden units as they are projected down."""
        norm = self._modules.get("inner_norm")
        return norm(hidden_BTF, flow) if isinstance(norm, Norm) else hidden_BTF


class Dense(Units):
    """down(act(up(x)))."""

    up: nn.Parameter
    down: nn.Parameter
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        hidden_BTF = flow.project(x_BTD, self.up, self.up_bias)
        hidden_BTF = ACTS[self.word](hidden_BTF) if self.own_act is None else self.own_act(hidden_BTF, flow)
        return flow.project(self.normed(hidden_BTF, flow), self.down, self.down_bias)


class Gated(Units):
    """down(act(gate(x)) * up(x)) (Shazeer 2020)."""

    fused = (GATED,)
    gate: nn.Parameter
    up: nn.Parameter
    down: nn.Parameter
    gate_bias: nn.Parameter | None
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def __init__(self, plan: GatedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        if self.own_act is not None:
            self.fused = ()

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        gate_BTF = flow.project(x_BTD, self.gate, self.gate_bias)
        up_BTF = flow.project(x_BTD, self.up, self.up_bias)
        if self.own_act is not None:
            hidden_BTF = self.own_act.gated(gate_BTF, up_BTF, flow)
        else:
            hidden_BTF = gated(gate_BTF, up_BTF, self.word, backend=self.backend)
        return flow.project(self.normed(hidden_BTF, flow), self.down, self.down_bias)
