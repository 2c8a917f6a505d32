"""A feed-forward gated by what a layer knows of the token itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from evo.blocks.base import Block, Norm
from evo.blocks.flow import Flow
from evo.blocks.token_table.spec import TokenTablePlan
from evo.dsl.spec import INPUT, TOKENS
from evo.kernels.fused import EMBED, GATED, embed, gated


class TokenTable(Block):
    """down(act(gate(x)) * e), e the token's row, or its mean with a projection of the embedding, times sqrt(2)."""

    fused = (EMBED, GATED)
    table: nn.Parameter
    gate: nn.Parameter
    down: nn.Parameter
    project: nn.Parameter | None

    def __init__(self, plan: TokenTablePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.word, self.scale = plan.act, plan.scale

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        row_BTF = embed(flow.signals[TOKENS], self.table, backend=self.fused_backend).to(x_BTD.dtype) * self.scale
        norm = self._modules.get("norm")
        if self.project is not None and isinstance(norm, Norm):
            own_BTF = norm(flow.project(flow.signals[INPUT], self.project), flow)
            row_BTF = (row_BTF + own_BTF) * 0.5**0.5
        hidden_BTF = gated(flow.project(x_BTD, self.gate), row_BTF, self.word, backend=self.fused_backend)
        return flow.project(hidden_BTF, self.down)
