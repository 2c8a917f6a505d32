"""A selection by means of blocks, which needs no index: mixture of block attention (Lu et al. 2502.13189)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.by_block import documents, means, products
from evo.blocks.select.index import visible
from evo.blocks.select.module import Asked, Select, best
from evo.blocks.select.spec import ByMeansPlan


class ByMeans(Select):
    """A query's own block and, of the whole ones before it, those whose mean key has the largest product with it."""

    def __init__(self, plan: ByMeansPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.size, self.top = plan.size, plan.top

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        return asked.within(stencil, self._chosen(asked, flow))

    @torch.no_grad()
    def _chosen(self, asked: Asked, flow: Flow) -> Tensor:
        """The tokens of the blocks that each head's queries meet, (B, H, T, S) bool."""
        keys, tokens = asked.keys_BSGK.shape[1], asked.q_BTHK.shape[1]
        scores_BHTC = products(asked, means(asked.keys_BSGK, self.size)).flatten(1, 2)
        whole, blocks = scores_BHTC.shape[-1], -(-keys // self.size)
        if flow.segments_BT is not None:
            of_BC = documents(flow.segments_BT, whole, self.size)
            is_other_B1TC = (of_BC[:, None] != flow.segments_BT[..., None])[:, None]
            scores_BHTC = scores_BHTC.masked_fill(is_other_B1TC, -torch.inf)
        own_T1 = torch.arange(keys - tokens, keys, device=scores_BHTC.device)[:, None] // self.size
        units_U = torch.arange(blocks, device=scores_BHTC.device)
        scores_BHTU = F.pad(scores_BHTC, (0, blocks - whole)).masked_fill(units_U > own_T1, -torch.inf)
        scores_BHTU = scores_BHTU.masked_fill(units_U == own_T1, torch.inf)
        chosen_BHTU = best(scores_BHTU, self.top) & (scores_BHTU > -torch.inf)
        seen_BHTS = chosen_BHTU.repeat_interleave(self.size, dim=-1)[..., :keys]
        return seen_BHTS & visible(seen_BHTS, flow)
