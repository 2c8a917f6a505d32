"""A block that is new in a trained organism adds nothing before it has learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import ATTENTION, MIXERS, block_of, inputs, plan, token_ids
from ffn_variants import FFNS

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.compiler.build import initial_weight, make
from evo.dsl.plan import BlockPlan
from evo.dsl.spec import TOKENS

HOSTED = {**MIXERS, **FFNS}
QUICK = {"attention", "attention full dress", "experts, shared", "experts, idle", "dense relu bias"}
"""The others run with the slow tests."""


def silent(block: BlockPlan) -> Block:
    """A block as it is drawn, but for the maps that write its output, which are zero."""
    module, weights = make(block).double(), dict(block.named_weights(""))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            weight = weights[f".{name}"]
            parameter.copy_(initial_weight(name, weight, seed=0) * (not weight.writes_residual))
    return module


EMA = {"kind": "ema"}
"""It has no map that could be zero."""


@pytest.mark.parametrize(
    "mixer",
    [
        {"parallel": [ATTENTION, EMA]},
        {"product": [EMA, ATTENTION]},
        {"route": [ATTENTION, EMA]},
        {"conditioned": EMA},
        {"joined": EMA, "by": "sum"},
        {"kind": "pool", "slots": 2, "of": EMA},
    ],
)
def test_what_is_made_of_a_block_that_is_heard_is_heard(mixer: dict[str, Any]) -> None:
    """It does not promise silence; a gate that is heard leaves a product of zero as it is."""
    assert not block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": mixer}]}}]), "0").can_be_silent
    gated = {"product": [ATTENTION, EMA]}
    assert block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": gated}]}}]), "0").can_be_silent


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in HOSTED])
def test_a_new_block_is_silent_and_learns_at_once(name: str) -> None:
    """With zero in the maps that write its output, a block that says so gives zero, and these maps have gradients."""
    block = block_of(plan([{"name": "s", "layers": {"sublayers": [{"block": HOSTED[name]}]}}]), "0")
    if not block.can_be_silent:
        pytest.skip("always heard")
    module, x = silent(block), inputs(8, 1)
    flow = Flow(signals={TOKENS: token_ids(x), "embedding": x})
    y = flow.run(module, x)
    assert not y.any()
    y.sum().backward()
    writes = {path for path, weight in block.named_weights("") if weight.writes_residual}
    gradients = {f".{name}": p.grad for name, p in module.named_parameters()}
    assert any(own is not None and bool(own.any()) for path, own in gradients.items() if path in writes)
