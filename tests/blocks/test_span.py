"""Spans that heads learn, against the paper's equations: values, gradients of every weight, and the penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from block_variants import CONTEXT, Whole, block_of, built, inputs, plan, stage
from papers import ATTENTION, compare, read_out, scores
from torch import Tensor


def faded(w: Mapping[str, Tensor], x: Tensor, spans: Tensor, soft: float) -> Tensor:
    """a_tr = m_z(t - r) exp(s_tr) / sum over q <= t of m_z(t - q) exp(s_tq), m_z(x) = min(max((R + z - x) / R, 0), 1)
    (1905.07799, eqs. 3 and 4). spans: z, (B or 1, H, T or 1)."""
    places = torch.arange(x.shape[1])
    away = places[:, None] - places
    mask = ((soft + spans[..., None] - away) / soft).clamp(0, 1) * (away >= 0)
    terms = mask * scores(w, x).exp()
    return read_out(terms / terms.sum(-1, keepdim=True), w, x)


def test_spans_of_heads():
    """One for each head, in shares of the context."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return faded(w, x, CONTEXT * w["span.reach_bias"].sigmoid()[None, :, None], 4)

    compare({**ATTENTION, "span": {"soft": 4}}, theirs, moved=0.4)


def test_spans_of_tokens():
    """z_t = S sigmoid(v x_t + b) (section 2.2)."""

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        spans = 9 * (x @ w["span.reach"].T + w["span.reach_bias"]).sigmoid().transpose(1, 2)
        return faded(w, x, spans, 3)

    compare({**ATTENTION, "span": {"by": "token", "most": 9, "soft": 3}}, theirs, moved=0.4)


@pytest.mark.parametrize("by", ["head", "token"])
def test_the_penalty_is_the_mean_span(by: str):
    """lambda / M times the sum of M spans (eq. 5), of the mean token's."""
    mixer: dict[str, Any] = {**ATTENTION, "span": {"by": by, "penalty": 0.5, "soft": 4}}
    block, x = Whole(built(block_of(plan([stage("s", mixer)]), "mixer"))), inputs()
    w = dict(block.named_parameters())
    logits = w["span.reach_bias"] + (x @ w["span.reach"].T if by == "token" else 0.0)
    torch.testing.assert_close(block.pass_(x)[1], 0.5 * CONTEXT * logits.sigmoid().mean())


def test_far_keys_are_not_seen():
    """Behind the span and what is soft of it, no gradient reaches a key."""
    mixer = {**ATTENTION, "span": {"most": 1, "soft": 3}}
    block, x = Whole(built(block_of(plan([stage("s", mixer)]), "mixer"))), inputs().requires_grad_()
    (found,) = torch.autograd.grad(block(x)[0, 10].sum(), x)
    assert [bool(row.any()) for row in found[0, :11]] == [False] * 7 + [True] * 4
