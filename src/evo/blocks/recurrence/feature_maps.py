"""Features that need more than a vector: random projections, and where a token stands."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.base import Block, compute_dtype
from evo.blocks.recurrence.featured import CosinePlan, DrawnPlan


class FeatureMap(Block):
    """What is made of queries and keys before they meet."""

    gives_vectors = False

    @abstractmethod
    def pair(self, q_BTGK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Features of queries and of keys at positions offset, offset + 1, ..., (B, T, G, M) each."""


class Drawn(FeatureMap):
    """exp(w x - |x|² / 2) / sqrt(M) with x over the fourth root of K, w random rows in orthogonal blocks: their
    products are on average exp(q k / sqrt(K)) (Choromanski et al. 2009.14794, lemma 1 and section 2.4)."""

    rows: nn.Parameter

    def __init__(self, plan: DrawnPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.is_divided = plan.is_divided

    def pair(self, q_BTGK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """A query's features are over its largest where a sum of weights divides that out; keys' are as they are."""
        del offset
        q_BTGM, k_BTGM = self._logits(q_BTGK), self._logits(k_BTGK)
        if self.is_divided:
            q_BTGM = q_BTGM - q_BTGM.amax(-1, keepdim=True).detach()
        size = self.rows.shape[1] ** -0.5
        return (q_BTGM.exp() * size).to(q_BTGK.dtype), (k_BTGM.exp() * size).to(k_BTGK.dtype)

    def _logits(self, x_BTGK: Tensor) -> Tensor:
        x_BTGK = x_BTGK.to(compute_dtype(x_BTGK)) * x_BTGK.shape[-1] ** -0.25
        along_BTGM = torch.einsum("btgk,gmk->btgm", x_BTGK, self.rows.to(x_BTGK.dtype))
        return along_BTGM - 0.5 * x_BTGK.square().sum(-1, keepdim=True)


class Cosine(FeatureMap):
    """[relu(x) cos(a), relu(x) sin(a)], a = (pi / 2) t / context: products are relu(q) relu(k) cos(a_t - a_s) (Qin et
    al. 2202.08791, eq. 10)."""

    def __init__(self, plan: CosinePlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.turn = 0.5 * math.pi / plan.context

    def pair(self, q_BTGK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Positions of packed documents go on: distances alone count."""
        places_T = torch.arange(offset, offset + q_BTGK.shape[1], device=q_BTGK.device)
        angles_T11 = (places_T.to(compute_dtype(q_BTGK)) * self.turn)[:, None, None]
        waves = angles_T11.cos().to(q_BTGK.dtype), angles_T11.sin().to(q_BTGK.dtype)
        q, k = (torch.cat([F.relu(x) * wave for wave in waves], dim=-1) for x in (q_BTGK, k_BTGK))
        return q, k
