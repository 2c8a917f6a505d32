"""Layers that read sums of all earlier states: against the equations written out, and what they are at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from block_variants import CONVOLUTION, moved, organism, stage
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


def plainly(reading: Block, states: list[Tensor], every: int, way: int = 0) -> Tensor:
    """sum_j w_j X_j, w = a + W_2 gelu(W_1 rms(X_i)) (2502.12170, eq. 4 and 5), or w = a (2402.02622).

    way: of several sums, whose shares W_2 gives side by side, the residual's, queries', keys' or values'.
    """
    read = states[::-1][::every][::-1]
    named = dict(reading.named_parameters())
    last = states[-1]
    shares = named[("shares", "q_shares", "k_shares", "v_shares")[way]].expand(*last.shape[:2], -1)
    if "up" in named:
        normed = last / (last.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        changes = F.gelu(normed @ named["down"].T) @ named["up"].T
        shares = shares + changes[..., way * len(read) : (way + 1) * len(read)]
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


def attended(mixer: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of two heads whose queries, keys and values are maps of vectors of their own."""
    w = dict(mixer.named_parameters())
    heads = lambda x, name: (x @ w[name].T).unflatten(-1, (2, -1)).transpose(1, 2)  # noqa: E731
    y = F.scaled_dot_product_attention(heads(q, "q"), heads(k, "k"), heads(v, "v"), is_causal=True)
    return y.transpose(1, 2).flatten(-2) @ w["o"].T


def rms(norm: Block, x: Tensor) -> Tensor:
    """A norm with its gains."""
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * next(norm.parameters())


@pytest.mark.parametrize("streams", [{}, {"dynamic": False}, {"rank": 3, "every": 2}])
def test_queries_keys_and_values_are_maps_of_sums_of_their_own(streams: dict[str, Any]) -> None:
    """MUDD's four ways (2502.12170): outputs, and gradients of the input and of every weight. Before the
    first layer there is one state, which all of them are."""
    stage_, x = body(ways="qkv", **streams), noise(2, TIME, WIDTH, seed=9).requires_grad_()
    states, every = [x], streams.get("every", 1)
    for index in range(LAYERS):
        layer = stage_.child(str(index))
        around = layer.child("mixer_streams")
        r, q, k, v = (plainly(around, states, every, way if index else 0) for way in range(4))
        q, k, v = rms(layer.child("mixer_norm"), q), rms(around.child("k_norm"), k), rms(around.child("v_norm"), v)
        states.append(r + attended(layer.child("mixer"), q, k, v))
    wanted = plainly(stage_.child("streams_end"), states, every)
    got = stage_.run({"x": [x]}, Flow()).value()
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights, cotangent = [x, *stage_.parameters()], noise(*x.shape, seed=8)
    both = [torch.autograd.grad((y * cotangent).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("ways", ["block", "qkv"])
def test_any_mixer_reads_a_sum_of_its_own(ways: str) -> None:
    """Beside the residual's; a layer whose mixer has no keys and values has no sums for them."""
    stages = [stage("s", [CONVOLUTION, MIX], repeat=4, ffn={"kind": "none"}, streams={"kind": "dense", "ways": ways})]
    run = organism(stages, position={"kind": "none"}).stages["s"]
    assert isinstance(run, StreamedLayers)
    named = {name.rpartition(".")[-1] for name, _ in run.child("2").named_parameters()}
    assert {"shares", "q_shares"} <= named
    assert not {"k_shares", "v_shares"} & named
    assert ("k_shares" in {name.rpartition(".")[-1] for name, _ in run.named_parameters()}) == (ways == "qkv")
    layer, states = run.child("2"), [noise(2, TIME, WIDTH, seed=seed) for seed in range(3)]
    with torch.no_grad():
        for index, weight in enumerate(layer.parameters()):
            weight.copy_(noise(*weight.shape, seed=index) * 0.5)
    around, mixer = layer.child("mixer_streams"), layer.child("mixer")
    read = rms(layer.child("mixer_norm"), plainly(around, states, 1, 1))
    wanted = plainly(around, states, 1) + mixer(read, Flow())
    found = layer(torch.stack(states, -2), Flow())
    torch.testing.assert_close(found[..., -1, :], wanted, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found[..., :-1, :], torch.stack(states, -2))


@pytest.mark.parametrize("more", [{"values": "turned_keys"}, {"values": "keys", "token_values": {}}])
def test_values_that_are_keys_have_no_sum(more: dict[str, Any]) -> None:
    """No weight is dead, and decoding goes on as the whole says."""
    stages = [stage("s", {**MIX, **more}, repeat=3, streams={"kind": "dense", "ways": "qkv"})]
    run = moved(organism(stages))
    names = {name.split("mixer_streams.")[-1].split(".")[0] for name, _ in run.named_parameters()}
    assert {"k_shares", "k_norm"} <= names
    assert not {"v_shares", "v_norm"} & names
    tokens = torch.arange(2 * TIME).view(2, TIME)
    whole = run(tokens)
    gradients = torch.autograd.grad(whole.square().sum(), list(run.parameters()))
    assert all(bool(gradient.abs().max() > 0) for gradient in gradients)
    state, found = OrganismState(), list[Tensor]()
    for token in tokens.split(1, 1):
        logits, state = run.extend(token, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("more", [{"mix": CONVOLUTION}, {"mix": MIX, "kv_add": "a"}])
def test_sums_that_nothing_would_read_are_told(more: dict[str, Any]) -> None:
    """EVO351: no mixer has keys and values, or they are given something else already."""
    low = stage("a", MIX)
    top = {"name": "b", "from": ["a"], "streams": {"kind": "dense", "ways": "qkv"}, "repeat": 2, **more}
    found = check(from_data({"evo": 1, "organism": {"width": 16, "stages": [low, top]}}))
    assert [diagnostic.code for diagnostic in found if diagnostic.severity == "error"] == ["EVO351"]


@pytest.mark.parametrize("ways", ["one", "block", "qkv"])
def test_at_first_it_is_no_other_stage(ways: str) -> None:
    """New shares take the latest state alone, so logits are those of one stream; and decoding equals the whole."""
    tokens = torch.randint(0, 256, (1, TIME), generator=torch.Generator().manual_seed(0))
    plain, dense = (
        organism([stage("s", MIX, repeat=3, **more)]) for more in ({}, {"streams": {"kind": "dense", "ways": ways}})
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
