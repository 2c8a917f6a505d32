"""Memories that product keys find, against a memory whose every slot is scored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import block_of, built, document, inputs, plan
from torch.utils.flop_counter import FlopCounterMode

from evo.base.diagnostics import DiagnosticError
from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.product_keys.module import ProductKeys

HEADS, KEYS, TOP, DIM = 2, 4, 5, 6


def memory(**settings: Any) -> Block:
    """The block in float64, with large weights."""
    data = {"kind": "product_keys", "heads": HEADS, "keys": KEYS, "top": TOP, "dim": DIM, **settings}
    block = built(block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": data}]}}]), "0"))
    with torch.no_grad():
        for seed, weight in enumerate(block.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed), dtype=weight.dtype))
    return block


@pytest.mark.parametrize("settings", [{}, {"of": "neurons"}, {"gate": True, "q_norm": {"kind": "rms"}, "top": 3}])
def test_the_best_of_all_slots_are_read(settings: dict[str, Any]):
    """Values and gradients equal those of every slot scored by itself, the best of them by softmax (1907.05242)."""
    block, x = memory(**settings), inputs()
    w = dict(block.named_parameters())
    q = (x @ w["q"].T).unflatten(-1, (HEADS, DIM))
    if "q_norm.gain" in w:
        q = F.rms_norm(q, (DIM,), w["q_norm.gain"], 1e-6)
    expected = torch.zeros_like(x)
    for head in range(HEADS):
        first, second = w["keys"][2 * head], w["keys"][2 * head + 1]
        slots = torch.stack([torch.cat((a, b)) for a in first for b in second])  # slot i n + j
        scores = q[..., head, :] @ slots.T
        least = scores.topk(settings.get("top", TOP), -1).values[..., -1:]
        shares = scores.masked_fill(scores < least, -torch.inf).softmax(-1)
        if "inner" in w:
            shares = shares * F.gelu(x @ w["inner"].T)
        expected = expected + shares @ w["values"]
    if "gate" in w:
        expected = (expected * F.silu(x @ w["gate"].T)) @ w["o"].T
    y = block(x, Flow())
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    cotangent = inputs(seed=4)
    found, wanted = (torch.autograd.grad((z * cotangent).sum(), list(w.values())) for z in (y, expected))
    for name, one, other in zip(w, found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("settings", [{}, {"of": "neurons", "top": 3}, {"gate": True}])
def test_a_token_costs_what_it_reads(settings: dict[str, Any]):
    """torch counts the products that the plan does; the sums of a head's short lists are no products."""
    block, x = memory(**settings), inputs()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(x, Flow())
    assert isinstance(block, ProductKeys)
    sums = HEADS * min(block.plan.top, KEYS) ** 2
    assert counter.get_total_flops() == (block.plan.cost.flops - sums) * x.shape[0] * x.shape[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dim": 5}, "5 channels have no two halves"),
        ({"top": 17}, "a memory of 4 x 4 slots has no 17"),
    ],
)
def test_what_cannot_be_is_said(settings: dict[str, Any], words: str):
    """Queries of an odd width, and more slots than there are."""
    data = {"kind": "product_keys", "heads": HEADS, "keys": KEYS, "top": TOP, "dim": DIM, **settings}
    with pytest.raises((AssertionError, DiagnosticError), match=words):
        document([{"name": "s", "layers": {"sublayers": [{"block": data}]}}])
