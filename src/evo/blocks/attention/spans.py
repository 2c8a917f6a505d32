"""How far heads see, where that is learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.attention.span import SpanPlan
from evo.blocks.base import Block, Distances, compute_dtype
from evo.blocks.flow import Flow


class Span(Block):
    """log of min(1, (soft + z - distance) / soft), added to scores (Sukhbaatar et al. 1905.07799, eqs. 3, 4)."""

    gives_vectors = False
    reach: nn.Parameter | None
    reach_bias: nn.Parameter

    def __init__(self, plan: SpanPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan

    def bias(self, x_BTD: Tensor, queries: int, at: Distances, flow: Flow) -> Tensor:
        """(1 or B, H, T, S) for so many of the latest tokens' queries, -inf where a head sees nothing."""
        spans_BTH = self._spans(x_BTD, flow)
        if self.plan.penalty:
            flow.add_loss("span", spans_BTH.mean(), self.plan.penalty)
        spans_BHT = spans_BTH.transpose(1, 2).expand(-1, -1, queries)
        left_BHTS = (self.plan.soft + spans_BHT[..., None] - at.of_TS.abs()) / self.plan.soft
        seen = left_BHTS > 0
        return torch.where(seen, torch.where(seen, left_BHTS, 1.0).clamp_max(1.0).log(), -torch.inf)

    def _spans(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """z, (B, T, H) or (1, 1, H), in float32 or wider."""
        logits = self.reach_bias.to(compute_dtype(x_BTD))
        if self.reach is None:
            return self.plan.most * logits.sigmoid()[None, None]
        return self.plan.most * (logits + flow.project(x_BTD, self.reach)).sigmoid()


def span_of(block: Block) -> Span | None:
    """The spans of an attention's heads, if these are learned."""
    found = dict(block.named_children()).get("span")
    return found if isinstance(found, Span) else None
