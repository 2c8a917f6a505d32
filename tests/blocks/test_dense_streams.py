"""Layers that read sums of all earlier states: against the equations written out, and what they are at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONVOLUTION, organism, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.stages.layers.streamed import StreamedLayers
from evo.compiler.check import check
from evo.compiler.organism import OrganismState
from evo.dsl.document import from_data

LAYERS, WIDTH, TIME = 4, 16, 9
MIX = {"kind": "attention", "heads": 2}


def body(**streams: Any) -> StreamedLayers:
    """A stage of layers with large weights."""
    stages = [stage("s", MIX, repeat=LAYERS, ffn={"kind": "none"}, streams={"kind": "dense", **streams})]
    found = organism(stages, position={"kind": "none"}).stages["s"]
    assert isinstance(found, StreamedLayers)
    with torch.no_grad():
        for index, weight in enumerate(found.parameters()):
            weight.copy_(noise(*weight.shape, seed=index) * 0.5)
    return found


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plainly(reading: Block, states: list[Tensor], every: int) -> Tensor:
    """sum_j w_j X_j, w = a + W_2 gelu(W_1 rms(X_i)) (2502.12170, eq. 4 and 5), or w = a (2402.02622)."""
    read = states[::-1][::every][::-1]
    named = dict(reading.named_parameters())
    last = states[-1]
    shares = named["shares"].expand(*last.shape[:2], -1)
    if "up" in named:
        normed = last / (last.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        shares = shares + F.gelu(normed @ named["down"].T) @ named["up"].T
    total = torch.zeros_like(last)
    for j, state in enumerate(read):
        total = total + shares[..., j, None] * state
    return total


@pytest.mark.parametrize("streams", [{"dynamic": False}, {}, {"rank": 3, "every": 2}, {"dynamic": False, "every": 3}])
def test_layers_read_sums_of_all_before(streams: dict[str, Any]) -> None:
    """Outputs, and gradients of the input and of every weight."""
    stage_, x = body(**streams), noise(2, TIME, WIDTH, seed=9).requires_grad_()
    states, every = [x], streams.get("every", 1)
    for index in range(LAYERS):
        layer = stage_.child(str(index))
        h = plainly(layer.child("mixer_streams"), states, every)
        states.append(h + layer.child("mixer")(layer.child("mixer_norm")(h, Flow()), Flow()))
    wanted = plainly(stage_.child("streams_end"), states, every)
    got = stage_.run({"x": [x]}, Flow()).value()
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights, cotangent = [x, *stage_.parameters()], noise(*x.shape, seed=8)
    both = [torch.autograd.grad((y * cotangent).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


def test_at_first_it_is_no_other_stage() -> None:
    """New shares take the latest state alone, so logits are those of one stream; and decoding equals the whole."""
    tokens = torch.randint(0, 256, (1, TIME), generator=torch.Generator().manual_seed(0))
    plain, dense = (
        organism([stage("s", CONVOLUTION, repeat=3, **more)]) for more in ({}, {"streams": {"kind": "dense"}})
    )
    weights = dict(dense.named_parameters())
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            weight.copy_(weights[name])
    whole, state, parts = dense(tokens), OrganismState(), []
    torch.testing.assert_close(whole, plain(tokens), rtol=1e-12, atol=1e-12)
    for token_B1 in tokens.split(1, dim=1):
        logits, state = dense.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-11)


def test_shared_layers_are_told() -> None:
    """EVO357: each of them reads another number of states."""
    stages = [stage("s", MIX, repeat=2, share=True, streams={"kind": "dense"})]
    found = check(from_data({"evo": 1, "organism": {"width": 16, "stages": stages}}))
    assert [diagnostic.code for diagnostic in found if diagnostic.severity == "error"] == ["EVO357"]
