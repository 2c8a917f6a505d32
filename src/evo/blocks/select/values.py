"""A selection by what values are worth: each key is scored by its own value, whoever asks (Doge, 2508.02124)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.select.index import visible
from evo.blocks.select.module import Asked, Select, best
from evo.blocks.select.spec import ByValuesPlan


class ByValues(Select):
    """exp(a_g softplus(w_g v)) is added to the scores of each key, and the `top` largest of a query's are met."""

    rate: nn.Parameter
    worth: nn.Parameter
    worth_bias: nn.Parameter | None

    def __init__(self, plan: ByValuesPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.top = plan.top

    def attended(self, asked: Asked, stencil: Any, flow: Flow) -> Any:
        q, keys, values = asked.q_BTHK, asked.keys_BSGK, asked.values_BSGV
        worth_BGTS = self._worth(values, flow)[:, :, None].expand(-1, -1, q.shape[1], -1)
        worth_BGTS = worth_BGTS.masked_fill(~visible(worth_BGTS, flow), -torch.inf)
        worth_BGTS = worth_BGTS.masked_fill(~best(worth_BGTS.detach(), self.top), -torch.inf)
        bias_BHTS = worth_BGTS.repeat_interleave(q.shape[2] // keys.shape[2], dim=1)
        return asked.attend(q, keys, values, stencil=stencil, bias_HTS=bias_BHTS)

    def _worth(self, values_BSGV: Tensor, flow: Flow) -> Tensor:
        """What is added to scores, (B, G, S)."""
        raw_BSG = flow.project(values_BSGV.flatten(-2), self.worth, self.worth_bias)
        return torch.exp(self.rate * F.softplus(raw_BSG)).transpose(1, 2).to(values_BSGV.dtype)
