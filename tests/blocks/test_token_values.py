"""Values that tokens have by themselves, against what is published: values and gradients of every weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import built, inputs, plan, stage
from papers import ATTENTION, HEADS, softmax_attention
from torch import Tensor

from evo.blocks.flow import Flow
from evo.dsl.spec import TOKENS

IDS = torch.randint(9, inputs().shape[:2], generator=torch.Generator().manual_seed(7))


def attentions(*settings: dict[str, Any]) -> list[Any]:
    """Attentions of one pass, one after another, with large weights."""
    whole = plan([stage(f"s{i}", {**ATTENTION, **found}, ffn={"kind": "none"}) for i, found in enumerate(settings)])
    blocks = [built(dict(dict(part.children)["0"].children)["mixer"]) for part in whole.stages]
    with torch.no_grad():
        for seed, weight in enumerate(weight for block in blocks for weight in block.parameters()):
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).to(weight.dtype))
    return blocks


def agree(ours: list[Tensor], theirs: list[Tensor], weights: list[Tensor]) -> None:
    """Outputs, and gradients of weights."""
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    totals = [sum((y * (0.3 + y)).sum() for y in ys) for ys in (ours, theirs)]
    found, wanted = (torch.autograd.grad(total, weights) for total in totals)  # pyright: ignore
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("reads", [None, 6])
def test_gated_rows_are_nanochats(reads: int | None):
    """v + 2 sigmoid(W x[:n]) row, for each value head (nanochat, CausalSelfAttention with ve_gate)."""
    settings = {"gate": "head"} if reads is None else {"gate": "head", "reads": reads}
    (block,) = attentions({"token_values": settings})
    w, x, ids = dict(block.named_parameters()), inputs(), IDS
    ve = w["token_values.table"][ids].unflatten(-1, (HEADS, -1))
    gate = 2 * torch.sigmoid(x[..., : reads or x.shape[-1]] @ w["token_values.gate"].T)
    v = (x @ w["v"].T).unflatten(-1, (HEADS, -1)) + gate[..., None] * ve
    theirs = softmax_attention(x @ w["q"].T, x @ w["k"].T, v.flatten(-2)) @ w["o"].T
    agree([block(x, Flow(signals={TOKENS: ids}))], [theirs], list(w.values()))


def test_shared_rows_are_the_speedruns():
    """lambda_0 v + lambda_1 row, one table for two attentions, each with numbers of its own (modded-nanogpt)."""
    first, second = attentions({"token_values": {"to": "ve"}}, {"token_values": {"from": "ve"}})
    assert "token_values.table" not in dict(second.named_parameters())
    x, ids = inputs(), IDS
    flow, theirs = Flow(signals={TOKENS: ids}), []
    ours = [block(x, flow) for block in (first, second)]
    rows = first.get_parameter("token_values.table")[ids]
    for block in (first, second):
        w = dict(block.named_parameters())
        v = w["token_values.shares"][0] * (x @ w["v"].T) + w["token_values.shares"][1] * rows
        theirs.append(softmax_attention(x @ w["q"].T, x @ w["k"].T, v) @ w["o"].T)
    agree(ours, theirs, [weight for block in (first, second) for weight in block.parameters()])
