"""A selection of the nearest earlier tokens beside a segment: Memorizing Transformers (Wu et al. 2203.08913)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.by_block import products
from evo.blocks.select.index import visible
from evo.blocks.select.module import Asked, Select, best
from evo.blocks.select.spec import NearestPlan
from evo.kernels.attention import Stencil


class Nearest(Select):
    """g far + (1 - g) near, g = sigmoid of a number of each head; near alone where nothing is further (section 3.2)."""

    gate: nn.Parameter

    def __init__(self, plan: NearestPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.segment = Stencil(kind="block", size=plan.size)

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        chosen_BHTS, has_any_BHT1 = self._chosen(asked, flow)
        remembered = asked
        if not self.plan.learns:
            remembered = replace(asked, keys_BSGK=asked.keys_BSGK.detach(), values_BSGV=asked.values_BSGV.detach())
        near, far = asked.within(self.segment, None), remembered.within(stencil, chosen_BHTS)
        if not isinstance(near, Tensor):  # descriptions of calls
            return [near, far]
        gate_BTH1 = has_any_BHT1.transpose(1, 2) * self.gate.to(near.dtype).sigmoid()[:, None]
        return near + gate_BTH1 * (far - near)

    @torch.no_grad()
    def _chosen(self, asked: Asked, flow: Flow) -> tuple[Tensor, Tensor]:
        """The tokens of earlier segments that each head's queries meet, (B, H, T, S) bool, or their own where there are
        none; and whether there are any, (B, H, T, 1)."""
        scores_BHTS = products(asked, asked.keys_BSGK).flatten(1, 2)
        tokens, keys = scores_BHTS.shape[-2:]
        places_S = torch.arange(keys, device=scores_BHTS.device)
        own_T1 = places_S[keys - tokens :, None]
        is_earlier = (places_S // self.plan.size < own_T1 // self.plan.size) & visible(scores_BHTS, flow)
        scores_BHTS = scores_BHTS.masked_fill(~is_earlier, -torch.inf)
        chosen_BHTS = best(scores_BHTS, self.plan.top) & (scores_BHTS > -torch.inf)
        has_any_BHT1 = chosen_BHTS.any(-1, keepdim=True)
        return chosen_BHTS | (~has_any_BHT1 & (places_S == own_T1)), has_any_BHT1
