"""Scores that tokens mix over heads, and that a network reads, against the authors' code written plainly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, plan, stage
from papers import ATTENTION, by_heads_of, compare
from torch import Tensor

from evo.compiler.check import problems
from evo.dsl.document import from_data

HEADS = 4
MIXER = {**ATTENTION, "heads": HEADS}


def logits_of(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """q k / sqrt(K), unseen products 0."""
    q, k = (by_heads_of(x @ w[name].T, HEADS) for name in "qk")
    return (q @ k.mT / q.shape[-1] ** 0.5).tril()


def masked(logits: Tensor) -> Tensor:
    """Scores of keys so far."""
    return logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -math.inf)


def read(weights: Tensor, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The weighed values, projected."""
    return (weights @ by_heads_of(x @ w["v"].T, HEADS)).transpose(1, 2).flatten(-2) @ w["o"].T


@pytest.mark.parametrize("by", [("query", "key"), ("query",)])
@pytest.mark.parametrize("on", [("before", "after"), ("after",), ("before",)])
@pytest.mark.parametrize("static", [False, True])
def test_heads_are_composed_as_by_dcformer(by: Sequence[str], on: Sequence[str], static: bool):
    """The authors' DynamicWeightProjection and CrossHeadProjection (2405.08553): w1 normed, w2 and tanh(dd) of the
    query's token, the same of the key's, for products and for weights; a static matrix besides where there is one."""
    rank, hidden = 2, 6

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        ways = len(by) * len(on)
        dw_hidden = F.gelu((x @ w["compose"].T).unflatten(-1, (ways, hidden)))
        dw = torch.einsum("btck,cdk->btcd", dw_hidden, w["compose_vectors"]).unflatten(-1, (2 * rank, HEADS))
        w1, w2 = dw.split(rank, -2)
        w1 = w1 * torch.rsqrt(w1.pow(2).mean(-1, keepdim=True) + 1e-6)
        dd = torch.tanh(x @ w["compose_gains"].T).unflatten(-1, (ways, HEADS))

        def project(inputs: Tensor, place: str) -> Tensor:
            ret = inputs
            if static:
                ret = ret + torch.einsum("bmts,nm->bnts", inputs, w[f"mix_{place}"])
            if place not in on:
                return ret
            for index, sayer in enumerate(by):
                c = on.index(place) * len(by) + index
                letter = "t" if sayer == "query" else "s"
                for i in range(rank):
                    inner = torch.einsum(f"bmts,b{letter}m->bts", inputs, w1[:, :, c, i])
                    ret = ret + torch.einsum(f"bts,b{letter}m->bmts", inner, w2[:, :, c, i])
                ret = ret + torch.einsum(f"bmts,b{letter}m->bmts", inputs, dd[:, :, c])
            return ret

        weights = masked(project(logits_of(w, x), "before")).softmax(-1)
        return read(project(weights, "after"), w, x)

    compose = {"rank": rank, "hidden": hidden, "by": list(by), "on": list(on)}
    groups = {"before": HEADS, "after": HEADS} if static else {}
    compare({**MIXER, "mix_scores": {"compose": compose, **groups}}, theirs, moved=0.3)


@pytest.mark.parametrize("position", ["alibi", "kerple"])
def test_a_network_reads_products_and_biases(position: str):
    """x + a + mlp(cat(x, a)), the mlp over heads with a leaky relu (DAPE, 2405.14722, the authors' AliBi_DAPE and
    ParallelKerpleLog_DAPE)."""
    width = 6

    def theirs(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        q, k = (by_heads_of(x @ w[name].T, HEADS) for name in "qk")
        attention = q @ k.mT / q.shape[-1] ** 0.5
        far = (torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1])).clamp_min(0).double()
        if position == "alibi":
            slopes = torch.tensor([2.0 ** (-8 * (head + 1) / HEADS) for head in range(HEADS)])
            a = -slopes[:, None, None] * far
        else:
            p, b = (w[f"position.{name}"].clamp_min(0.01)[:, None, None] for name in "ab")
            a = -p * torch.log(1 + b * far)
        both = torch.cat((attention, a.expand(len(x), -1, -1, -1)), dim=1).permute(0, 2, 3, 1)
        inner = F.leaky_relu(both @ w["score_in"].T + w["score_in_bias"])
        made = (inner @ w["score_out"].T + 0.7).permute(0, 3, 1, 2)  # their last bias, whatever it is
        return read(masked(attention + a + made).softmax(-1), w, x)

    compare({**MIXER, "position": {"kind": position}, "mix_scores": {"network": width}}, theirs, moved=0.2)


def test_a_cache_keeps_what_keys_say():
    """Of each key: into, out and a gain a head, for products and weights."""
    mixer = {**MIXER, "mix_scores": {"compose": {"rank": 1}}}
    with_it, without = (block_of(plan([stage("s", data)]), "mixer").cost for data in (mixer, MIXER))
    assert with_it.cache_per_token - without.cache_per_token == 2 * (2 * 1 + 1) * HEADS


@pytest.mark.parametrize(
    "change",
    [
        {"mix_scores": {"compose": {}, "queries": 2}},
        {"mix_scores": {"compose": {"by": ["key", "key"]}}},
        {"mix_scores": {"network": 4}},
        {"mix_scores": {"network": 4}, "position": {"kind": "alibi"}, "forget": True},
        {"mix_scores": {"compose": {}}, "select": {"kind": "means", "size": 4, "top": 2}},
    ],
)
def test_what_cannot_be(change: dict[str, Any]) -> None:
    """Compositions beside convolutions, twice the same sayer, and networks that have nothing else to read."""
    organism = {"width": 16, "context": 16, "stages": [stage("s", {**MIXER, **change})]}
    found = problems(from_data({"evo": 1, "organism": organism}).document)
    assert {fault.code for fault in found if fault.severity == "error"} == {"EVO308"}
