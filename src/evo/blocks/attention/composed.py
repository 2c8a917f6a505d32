"""What tokens say of how the scores of heads are mixed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evo.blocks.attention.mixing import ComposeSpec, MixScoresSpec
from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.tapped import Tapped
from evo.blocks.base import Block, compute_dtype
from evo.blocks.flow import Flow
from evo.kernels.attention.mixing import Composed, HeadMix, ScoreMix, ScoreNetwork, shaped

EPS = 1e-6
Said = tuple[Tensor, Tensor]
"""What tokens say as queries, (B, T, X), and what all keys so far have said, (B, S, X); no channels if nothing."""


class Composing(Tapped):
    """A block whose scores are mixed over heads, by weights and by what tokens say."""

    plan: AttentionPlan
    mix_before: nn.Parameter | None
    mix_after: nn.Parameter | None
    compose: nn.Parameter | None
    compose_vectors: nn.Parameter | None
    compose_gains: nn.Parameter | None
    score_in: nn.Parameter | None
    score_in_bias: nn.Parameter | None
    score_out: nn.Parameter | None

    def __init__(self, plan: AttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.mix = plan.mix_scores

    def score_mix(self) -> ScoreMix | None:
        """What weights alone say."""
        if self.mix is None:
            return None
        found = ScoreMix(shaped(self.mix_before, self.mix.queries, self.mix.keys), shaped(self.mix_after, 1, 1))
        parts = (self.score_in, self.score_in_bias, self.score_out)
        network = [part for part in parts if part is not None]
        return found if self.mix.network is None else found._replace(network=ScoreNetwork(*network))

    def said(self, x_BTD: Tensor, before_BSX: Tensor | None, flow: Flow) -> Said | None:
        """What these tokens say of scores, if they say any."""
        mix = self.mix
        if mix is None or mix.compose is None:
            return None
        assert self.compose is not None
        assert self.compose_vectors is not None
        assert self.compose_gains is not None
        spec, heads = mix.compose, self.plan.heads
        ways = len(spec.ways)
        hidden_BTWF = F.gelu(flow.project(x_BTD, self.compose)).unflatten(-1, (ways, -1))
        vectors_WBTX = flow.project(hidden_BTWF.movedim(2, 0), self.compose_vectors)
        into_WBTIH, out_WBTIH = vectors_WBTX.unflatten(-1, (2, spec.rank, heads)).unbind(-3)
        into_WBTIH = F.rms_norm(into_WBTIH.to(compute_dtype(x_BTD)), (heads,), eps=EPS)
        gains_WBTH = flow.project(x_BTD, self.compose_gains).tanh().unflatten(-1, (ways, heads)).movedim(2, 0)
        parts = (into_WBTIH.flatten(-2), out_WBTIH.flatten(-2).to(into_WBTIH.dtype), gains_WBTH.to(into_WBTIH.dtype))
        each = dict(zip(spec.ways, torch.cat(parts, dim=-1), strict=True))
        nothing_BT0 = into_WBTIH.new_zeros(*x_BTD.shape[:2], 0)
        queries, keys = (
            torch.cat([nothing_BT0, *(part for (_, who), part in each.items() if who == sayer)], dim=-1)
            for sayer in ("query", "key")
        )
        return queries, keys if before_BSX is None else torch.cat((before_BSX, keys), dim=1)


def composed(mix: ScoreMix, spec: MixScoresSpec, said: Said, heads: int) -> ScoreMix:
    """The same with what tokens say."""
    if spec.compose is None:
        return mix
    by = {
        sayer: _by_stage(part, spec.compose, sayer, heads) for sayer, part in zip(("query", "key"), said, strict=True)
    }
    before, after = (Composed(by["query"].get(stage), by["key"].get(stage)) for stage in ("before", "after"))
    return mix._replace(composed_before=before, composed_after=after)


def _by_stage(said_BTX: Tensor, spec: ComposeSpec, sayer: str, heads: int) -> dict[str, HeadMix]:
    """What is said of products and of weights."""
    if sayer not in spec.by:
        return {}
    size = spec.rank * heads
    found: dict[str, HeadMix] = {}
    for stage, part in zip(spec.on, said_BTX.chunk(len(spec.on), dim=-1), strict=True):
        into, out, gains = part.split((size, size, heads), dim=-1)
        found[stage] = HeadMix(into.unflatten(-1, (spec.rank, heads)), out.unflatten(-1, (spec.rank, heads)), gains)
    return found
