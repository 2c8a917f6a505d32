"""A small attention without values: the scores of all earlier tokens, from which a selection chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evo.blocks.base import Block, Norm, Position, compute_dtype
from evo.blocks.flow import Flow, State
from evo.blocks.select.indexed import IndexPlan


@dataclass(frozen=True)
class IndexState(State):
    """Normed and turned keys of all tokens so far, (B, S, K)."""

    keys_BSK: Tensor


class Index(Block):
    """sum_h w_h relu(q_h k) / sqrt(H K) for all heads, or sum_h relu(q_h k) / sqrt(K), or q_h k for each."""

    gives_vectors = False

    q: nn.Parameter
    k: nn.Parameter | None
    weigh: nn.Parameter | None
    position: Position

    def __init__(self, plan: IndexPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.heads, self.dim, self.narrow, self.adds = plan.heads, plan.dim, plan.narrow, plan.adds

    def forward(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        """Scores in float32, or float64: (B, T, D + R) -> (B, H or 1, T, T), minus infinity where a query sees nothing.

        x_BTD: the stream, and behind it what queries are made of if that is another vector.
        """
        return self._of_tokens(x_BTD, self._keys(x_BTD, flow), flow)

    def initial_state(self, batch: int, device: torch.device | str, dtype: torch.dtype) -> IndexState:
        """No keys."""
        return IndexState(torch.empty(batch, 0, self.dim, device=device, dtype=dtype))

    def extend(self, x_BTD: Tensor, state: IndexState, flow: Flow) -> tuple[Tensor, IndexState]:
        """Scores of the next T positions, (B, H or 1, T, S + T), and all keys."""
        keys_BSK = torch.cat((state.keys_BSK, self._keys(x_BTD, flow)), dim=1)
        return self._of_tokens(x_BTD, keys_BSK, flow), IndexState(keys_BSK)

    def _keys(self, x_BTD: Tensor, flow: Flow) -> Tensor:
        stream_BTD = x_BTD[..., : x_BTD.shape[-1] - self.narrow]
        assert self.k is not None
        k_BT1K = self.child("k_norm")(flow.project(stream_BTD, self.k), flow)[:, :, None]
        return self.position.rotate(k_BT1K, k_BT1K, flow.position)[1][:, :, 0]

    def _of_tokens(self, x_BTD: Tensor, keys_BSK: Tensor, flow: Flow) -> Tensor:
        shown = visible(x_BTD.new_empty(1, 1, x_BTD.shape[1], keys_BSK.shape[1]), flow)
        return self._scores(x_BTD, keys_BSK, shown, flow)

    def _scores(self, x_BTD: Tensor, keys_BSK: Tensor, shown: Tensor, flow: Flow) -> Tensor:
        """Scores of keys, minus infinity where a query is not shown one."""
        width, compute = x_BTD.shape[-1] - self.narrow, compute_dtype(x_BTD)
        made_of = x_BTD[..., width:] if self.narrow else x_BTD
        q_BTHK = flow.project(made_of, self.q).unflatten(-1, (self.heads, self.dim))
        norm = self._modules.get("q_norm")
        q_BTHK = norm(q_BTHK, flow) if isinstance(norm, Norm) else q_BTHK
        q_BTHK, _ = self.position.rotate(q_BTHK, q_BTHK[:, :, :1], flow.position)
        scores_BHTS = q_BTHK.transpose(1, 2).to(compute) @ keys_BSK.to(compute).transpose(1, 2)[:, None]
        if self.weigh is not None:
            shares_BTH = flow.project(x_BTD[..., :width], self.weigh).to(compute)
            factor = (self.heads * self.dim) ** -0.5
            scores_BHTS = torch.einsum("bth,bhts->bts", shares_BTH * factor, scores_BHTS.relu())[:, None]
        elif self.adds:
            scores_BHTS = scores_BHTS.relu().sum(1, keepdim=True) * self.dim**-0.5
        return scores_BHTS.masked_fill(~shown, -torch.inf)


def visible(scores_BHTS: Tensor, flow: Flow) -> Tensor:
    """Which tokens stand before each query and in its document: (T, S), or (B, 1, T, S) if rows hold several."""
    tokens, keys = scores_BHTS.shape[-2:]
    places_S = torch.arange(keys, device=scores_BHTS.device)
    seen = places_S <= places_S[keys - tokens :, None]
    if flow.segments_BT is None:
        return seen
    return seen & (flow.segments_BT[:, None, :, None] == flow.segments_BT[:, None, None, :])
