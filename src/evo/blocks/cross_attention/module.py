"""Attention of each token to the few vectors that a stage gives it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, compute_dtype
from evo.blocks.cross_attention.spec import CrossAttentionPlan
from evo.blocks.flow import Flow


class CrossAttention(Block):
    """o(softmax(q(x_t) k(norm(c_tj)) / sqrt(K)) v(norm(c_tj))) over the vectors c_t0, c_t1, ... of the token."""

    q: nn.Parameter
    k: nn.Parameter
    v: nn.Parameter
    o: nn.Parameter
    kv_norm: Norm

    def __init__(self, plan: CrossAttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.source, self.heads, self.groups = plan.source, plan.heads, plan.kv_heads

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        c_BTJD = self.kv_norm(flow.signals[self.source], flow)
        q_BTGRK = flow.project(x_BTD, self.q).unflatten(-1, (self.groups, self.heads // self.groups, -1))
        k_BTJGK = flow.project(c_BTJD, self.k).unflatten(-1, (self.groups, -1))
        v_BTJGK = flow.project(c_BTJD, self.v).unflatten(-1, (self.groups, -1))
        scores_BTGRJ = torch.einsum("btgrk,btjgk->btgrj", q_BTGRK, k_BTJGK) * q_BTGRK.shape[-1] ** -0.5
        weights_BTGRJ = scores_BTGRJ.to(compute_dtype(x_BTD)).softmax(-1).to(v_BTJGK.dtype)
        o_BTGRK = torch.einsum("btgrj,btjgk->btgrk", weights_BTGRJ, v_BTJGK)
        return flow.project(o_BTGRK.flatten(2), self.o)
