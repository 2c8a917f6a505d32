"""Attention whose heads are generated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evo.blocks.attention.met_heads import MetHeads
from evo.blocks.attention.module import Attention
from evo.blocks.attention.tapped import Taps
from evo.blocks.flow import Flow


class Hypernetwork(Attention):
    """W_h x = sum_e z_he (B_e x): what templates make of the input is mixed, which saves making the weights."""

    heads: nn.Parameter

    def _heads(self, y_BTC: Tensor, name: str, dim: int, flow: Flow, taps: Taps) -> Tensor:
        """(B, T, H, K) of what the templates give, (B, T, E, K)."""
        parts_BTEK = super()._heads(y_BTC, name, dim, flow, taps)
        return torch.einsum("btek,he->bthk", parts_BTEK, self.heads.to(parts_BTEK.dtype))

    def _out(self, o_BTHV: Tensor, x_BTD: Tensor, flow: Flow, met: MetHeads | None) -> Tensor:
        """sum_h W_h o_h = sum_e B_e sum_h z_he o_h."""
        return super()._out(torch.einsum("bthv,he->btev", o_BTHV, self.heads.to(o_BTHV.dtype)), x_BTD, flow, met)
