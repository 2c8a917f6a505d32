"""Gates on what an earlier mixer read from its state."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.gated_memory.spec import GatedMemoryPlan
from evo.kernels.fused import GATED, gated


class GatedMemory(Block):
    """o(norm(m * act(gate(x)))) (Ren et al. 2507.06607, eq. 1)."""

    fused = (GATED,)
    gate: nn.Parameter
    o: nn.Parameter

    def __init__(self, plan: GatedMemoryPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.word, (self.signal,) = plan.act, plan.inputs

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        memory_BTC = flow.signals[self.signal].to(x_BTD.dtype)
        hidden_BTC = gated(flow.project(x_BTD, self.gate), memory_BTC, self.word, backend=self.fused_backend)
        norm = self._modules.get("norm")
        if isinstance(norm, Norm):
            hidden_BTC = norm(hidden_BTC, flow)
        return flow.project(hidden_BTC, self.o)
