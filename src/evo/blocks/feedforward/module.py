"""Position-wise feed-forwards."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.feedforward.spec import DensePlan, GatedPlan
from evo.blocks.flow import Flow
from evo.kernels.fused import ACTS, GATED, gated


class Dense(Block):
    """down(act(up(x)))."""

    up: nn.Parameter
    down: nn.Parameter
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def __init__(self, plan: DensePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.act = ACTS[plan.act]

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        hidden_BTF = self.act(flow.project(x_BTD, self.up, self.up_bias))
        return flow.project(hidden_BTF, self.down, self.down_bias)


class Gated(Block):
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
        self.act = plan.act

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(..., D) -> (..., D)."""
        gate_BTF = flow.project(x_BTD, self.gate, self.gate_bias)
        hidden_BTF = gated(gate_BTF, flow.project(x_BTD, self.up, self.up_bias), self.act, backend=self.backend)
        return flow.project(hidden_BTF, self.down, self.down_bias)
