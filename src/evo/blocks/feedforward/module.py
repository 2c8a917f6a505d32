"""Position-wise feed-forwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.dsl.plan import BlockPlan
from evo.kernels.fused import ACTS, gated


class Dense(Block):
    """down(act(up(x)))."""

    optional: ClassVar[tuple[str, ...]] = ("up_bias", "down_bias")
    up: nn.Parameter
    down: nn.Parameter
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.act = ACTS[plan.settings["act"]]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        hidden_BTF = self.act(F.linear(x_BTD, self.up, self.up_bias))
        return F.linear(hidden_BTF, self.down, self.down_bias)


class Gated(Block):
    """down(act(gate(x)) * up(x)) (Shazeer 2020)."""

    optional: ClassVar[tuple[str, ...]] = ("gate_bias", "up_bias", "down_bias")
    gate: nn.Parameter
    up: nn.Parameter
    down: nn.Parameter
    gate_bias: nn.Parameter | None
    up_bias: nn.Parameter | None
    down_bias: nn.Parameter | None

    def __init__(self, plan: BlockPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.act: str = plan.settings["act"]

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        gate_BTF = F.linear(x_BTD, self.gate, self.gate_bias)
        hidden_BTF = gated(gate_BTF, F.linear(x_BTD, self.up, self.up_bias), self.act, backend=self.backend)
        return F.linear(hidden_BTF, self.down, self.down_bias)
