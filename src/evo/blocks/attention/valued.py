"""Values that tokens have whatever stands around them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.attention.token_values import TokenValuesPlan
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.dsl.spec import TOKENS
from evo.kernels.fused import EMBED, embed


class TokenValues(Block):
    """a v + b row, or v + 2 sigmoid(W x) row, rows by token."""

    fused = (EMBED,)
    table: nn.Parameter | None
    gate: nn.Parameter | None
    shares: nn.Parameter | None

    def __init__(self, plan: TokenValuesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def beside(self, v_BTGV: Tensor, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Values with rows of the same tokens."""
        rows_BTGV = self._rows(flow).to(v_BTGV.dtype)
        if self.plan.to:
            flow.signals[self.plan.to] = rows_BTGV
        if self.shares is not None:
            own, row = self.shares.to(v_BTGV.dtype)
            return own * v_BTGV + row * rows_BTGV
        assert self.gate is not None
        gate_BTG = 2.0 * flow.project(x_BTD[..., : self.plan.reads], self.gate).sigmoid()
        return v_BTGV + gate_BTG[..., None] * rows_BTGV

    def note(self, x_BTD: Tensor, flow: Flow) -> None:
        """Leave signals in a pass that only asks what it would run."""
        rows = (*x_BTD.shape[:2], self.plan.groups, self.plan.values)
        flow.signals[TOKENS] = x_BTD.new_zeros(rows[:2], dtype=torch.long)
        if self.plan.source:
            flow.signals[self.plan.source] = x_BTD.new_empty(rows)

    def _rows(self, flow: Flow) -> Tensor:
        if self.table is None:
            return flow.signals[self.plan.source]
        rows_BTC = embed(flow.signals[TOKENS], self.table, backend=self.fused_backend)
        return rows_BTC.unflatten(-1, (self.plan.groups, -1))


def token_values(block: Block) -> TokenValues | None:
    """What values of an attention have besides by the token, if they have."""
    found = dict(block.named_children()).get("token_values")
    return found if isinstance(found, TokenValues) else None
