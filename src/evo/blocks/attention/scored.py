"""What attention's softmax has besides products of queries and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from evo.blocks.attention.composed import Composing, Said, composed
from evo.blocks.attention.forgetting import fall, summed
from evo.blocks.attention.heating import heat
from evo.blocks.attention.plan import AttentionPlan
from evo.blocks.attention.selective import passed_over
from evo.blocks.attention.spans import span_of
from evo.blocks.base import Block, Distances, Position, compute_dtype
from evo.blocks.flow import Flow

Fallen = dict[str, Tensor]
"""Of each key, what later queries must know of what lowers its scores, (B, S, R) by name, float32 or wider."""


@dataclass(frozen=True)
class Falls:
    """What is added to the scores of these queries, each (B, R, T, S), what tokens say of mixing them, and what later
    ones must know."""

    terms: tuple[Tensor, ...] = ()
    said: Said | None = None
    fallen: Mapping[str, Tensor] | None = None

    def kept(self, keep: Callable[[Tensor], Tensor]) -> Fallen:
        """The same of some positions."""
        return {name: keep(fallen_BSR) for name, fallen_BSR in (self.fallen or {}).items()}


NOTHING_FALLS = Falls()


class Scored(Composing):
    """An attention whose scores are more than products."""

    forget: nn.Parameter | None
    forget_bias: nn.Parameter | None
    sink_logit: nn.Parameter | None
    position: Position

    def __init__(self, plan: AttentionPlan, children: Mapping[str, Block]) -> None:
        super().__init__(plan, children)
        self.plan = plan
        self.scale = plan.head_dim**-0.5 if plan.scale is None else plan.scale

    def _parts(self, q_BTHK: Tensor) -> dict[str, Any]:
        """What the softmax has besides scores and stencil. The same seed must give the same training, byte for byte."""
        has_one = self.plan.weigh == "softmax1"  # a sink of logit 0, which kernels have
        return {
            "repeatable": True,
            "scale": self.plan.scale if self.plan.key_dim is None else self.scale,
            "soft_cap": self.plan.soft_cap,
            "sink_logits_H": q_BTHK.new_zeros(self.plan.heads) if has_one else self.sink_logit,
            "alibi_slopes_H": self.position.slopes_H(q_BTHK),
            "weigh": "softmax" if has_one else self.plan.weigh,
            "mix": self.score_mix(),
        }

    def _nothing_fell(self, keys_BSGK: Tensor) -> Fallen:
        """The same before the first token."""
        speakers = {"none": 0, "one": 1, "each": self.plan.heads}[self.plan.selective]
        counts = {"forgot": self.plan.heads if self.forget is not None else 0, "passed": speakers}
        compose = None if self.mix is None else self.mix.compose
        counts["said"] = 0 if compose is None else compose.kept(self.plan.heads)
        compute = compute_dtype(keys_BSGK)
        return {name: keys_BSGK.new_zeros(len(keys_BSGK), 0, n, dtype=compute) for name, n in counts.items() if n}

    def _falls(
        self,
        x_BTD: Tensor,
        q_BTHK: Tensor,
        keys_BSGK: Tensor,
        at: Distances,
        flow: Flow,
        before: Mapping[str, Tensor] | None = None,
    ) -> Falls:
        """What lowers scores: forget gates, and what earlier queries passed over. before: what fell before these."""
        before, terms, fallen = before or {}, list[Tensor](), Fallen()
        if self.forget is not None:
            logits_BTH = flow.project(x_BTD, self.forget, self.forget_bias)
            fallen["forgot"] = summed(logits_BTH, before.get("forgot"))
            terms.append(fall(fallen["forgot"], q_BTHK.shape[1]))
        if self.plan.selective != "none":
            speaks, met = q_BTHK, keys_BSGK
            if self.plan.selective == "one":
                speaks, met = q_BTHK[:, :, :1], keys_BSGK[:, :, :1]
            sums = passed_over(speaks, met, self.scale, at, flow.segments_BT, before.get("passed"))
            terms.append(-sums[0])
            fallen["passed"] = sums[1]
        said = self.said(x_BTD, before.get("said"), flow)
        if said is not None and said[1].shape[-1]:
            fallen["said"] = said[1]
        return Falls(tuple(terms), said, fallen)

    def _bias(
        self, x_BTD: Tensor, q_BTHK: Tensor, keys_BSGK: Tensor, at: Distances, flow: Flow, falls: Falls
    ) -> dict[str, Any]:
        """What is added to scores, if anything: by the position encoding, by what falls, and the same to all; and the
        mix of scores where tokens say it."""
        terms: list[Tensor] = []
        bias_HTS = self.position.bias_HTS(x_BTD, q_BTHK, self.scale, at, flow)
        if bias_HTS is not None:
            heat_T = heat(self.plan.temperature, flow.position, x_BTD) if self.position.heats_bias else None
            terms.append(bias_HTS if heat_T is None else bias_HTS * heat_T[:, None])
        by_keys_BHTS = self.position.bias_by_keys(q_BTHK, keys_BSGK, self.scale, at, flow)
        terms += [] if by_keys_BHTS is None else [by_keys_BHTS]
        terms += falls.terms
        if (span := span_of(self)) is not None:
            terms.append(span.bias(x_BTD, q_BTHK.shape[1], at, flow))
        if self.plan.offset is not None:
            terms.append(q_BTHK.new_full((1, 1, 1), self.plan.offset, dtype=compute_dtype(q_BTHK)))
        found: dict[str, Any] = {"bias_HTS": reduce(torch.add, terms)} if terms else {}
        mix = self.score_mix()
        if mix is not None and self.mix is not None and falls.said is not None:
            found["mix"] = composed(mix, self.mix, falls.said, self.plan.heads)
        return found
