"""Native sparse attention: means of blocks, the best blocks by them, and the last tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.by_block import documents, means, products
from evo.blocks.select.index import visible
from evo.blocks.select.module import Asked, Select, best
from evo.blocks.select.spec import CompressedPlan
from evo.kernels.attention import Stencil


class Compressed(Select):
    """sigmoid(g_1) compressed + sigmoid(g_2) selected + sigmoid(g_3) window (Yuan et al. 2025, eq. 5 to 12)."""

    gate: nn.Parameter

    def __init__(self, plan: CompressedPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.size, self.top = plan.heads, plan.size, plan.top
        self.window = Stencil(kind="window", size=plan.window)

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        blockwise = self._of_means(asked)
        chosen_BGTS = self._chosen(asked, blockwise.keys_BSGK, flow)
        ends_C = (torch.arange(blockwise.keys_BSGK.shape[1], device=asked.q_BTHK.device) + 1) * self.size - 1
        compressed = replace(blockwise, attend=self._of_blocks(asked, ends_C, flow)).within(stencil, None)
        selected, near = asked.within(stencil, chosen_BGTS), asked.within(self.window, None)
        if not isinstance(selected, Tensor):  # descriptions of calls
            return [compressed, selected, near]
        gates_BTHN = flow.project(asked.x_BTD, self.gate).sigmoid().unflatten(-1, (self.heads, 3))
        parts = (compressed, selected, near)
        return sum(part * gate[..., None] for part, gate in zip(parts, gates_BTHN.unbind(-1), strict=True))

    def _of_means(self, asked: Asked) -> Asked:
        """The same question to the mean key and value of each whole block."""
        keys, values = (means(x, self.size) for x in (asked.keys_BSGK, asked.values_BSGV))
        return replace(asked, keys_BSGK=keys, values_BSGV=values)

    def _of_blocks(self, asked: Asked, ends_C: Tensor, flow: Flow) -> Any:
        """`attend` for keys that stand at the ends of blocks."""
        segments = {}
        if flow.segments_BT is not None:
            segments["key_segments_BS"] = documents(flow.segments_BT, len(ends_C), self.size)
        return lambda *qkv, **settings: asked.attend(*qkv, **settings, **segments, key_positions_S=ends_C)

    @torch.no_grad()
    def _chosen(self, asked: Asked, means_BCGK: Tensor, flow: Flow) -> Tensor:
        """The tokens of the blocks that each key head's queries meet, (B, G, T, S) bool."""
        keys = asked.keys_BSGK.shape[1]
        blocks = -(-keys // self.size)
        logits = products(asked, means_BCGK) * asked.scale
        tokens = logits.shape[-2]
        query_T1 = torch.arange(keys - tokens, keys, device=logits.device)[:, None]
        units_U = torch.arange(blocks, device=logits.device)
        is_past_TC = (units_U[: logits.shape[-1]] + 1) * self.size - 1 <= query_T1
        logits = logits.masked_fill(~is_past_TC, -torch.inf)
        shares_BGTC = logits.softmax(-1).nan_to_num(0.0).mean(2)
        scores_BGTU = F.pad(shares_BGTC, (0, blocks - shares_BGTC.shape[-1]))
        own_T1 = query_T1 // self.size
        for worth, is_forced_TU in ((2.0, units_U == 0), (3.0, units_U == own_T1 - 1), (4.0, units_U == own_T1)):
            scores_BGTU = scores_BGTU.masked_fill(is_forced_TU, worth)
        scores_BGTU = scores_BGTU.masked_fill(units_U > own_T1, -torch.inf)
        chosen_BGTU = best(scores_BGTU, self.top)
        seen_BGTS = chosen_BGTU.repeat_interleave(self.size, dim=-1)[..., :keys]
        return seen_BGTS & visible(seen_BGTS, flow)
