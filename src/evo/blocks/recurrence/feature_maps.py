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
from evo.blocks.recurrence.features import l2_normalize


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


class Rows(Block):
    """Random projections, (G, M, K)."""

    rows: nn.Parameter
    gives_vectors = False


class Fourier(FeatureMap):
    """[sin(w x), cos(w x)] / sqrt(M) of x of unit length, w = widths * a random row: their products are on average
    exp(-|widths * (q - k)|² / 2) (Peng et al. 2103.02143, eqs. 2 and 3 and section 3.3)."""

    widths: nn.Parameter

    def pair(self, q_BTGK: Tensor, k_BTGK: Tensor, offset: int) -> tuple[Tensor, Tensor]:
        """Each by itself."""
        del offset
        return self._waves(q_BTGK), self._waves(k_BTGK)

    def _waves(self, x_BTGK: Tensor) -> Tensor:
        drawn = self.child("drawn")
        assert isinstance(drawn, Rows)
        wide_BTGK = l2_normalize(x_BTGK.to(compute_dtype(x_BTGK)))
        wide_BTGK = wide_BTGK * self.widths.to(wide_BTGK.dtype)
        along_BTGM = torch.einsum("btgk,gmk->btgm", wide_BTGK, drawn.rows.to(wide_BTGK.dtype))
        waves = torch.cat((along_BTGM.sin(), along_BTGM.cos()), dim=-1) * along_BTGM.shape[-1] ** -0.5
        return waves.to(x_BTGK.dtype)


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
