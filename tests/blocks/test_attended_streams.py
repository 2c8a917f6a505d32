"""Sublayers that attend to what all before them gave: against the authors' equations written out, and decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import CONVOLUTION, organism, stage
from torch import Tensor

from evo.blocks.base import Block
from evo.blocks.flow import Flow
from evo.blocks.stages.layers.streamed import StreamedLayers
from evo.compiler.check import check
from evo.compiler.organism import OrganismState
from evo.dsl.document import from_data

LAYERS, WIDTH, TIME = 3, 16, 9
MIX = {"kind": "attention", "heads": 2}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def body(**streams: Any) -> StreamedLayers:
    """A stage of layers with large weights."""
    stages = [stage("s", MIX, repeat=LAYERS, ffn={"kind": "dense"}, streams={"kind": "attended", **streams})]
    found = organism(stages, position={"kind": "none"}).stages["s"]
    assert isinstance(found, StreamedLayers)
    with torch.no_grad():
        for index, weight in enumerate(found.parameters()):
            weight.copy_(noise(*weight.shape, seed=index) * 0.5)
    return found


def attended(query: Tensor | None, states: list[Tensor]) -> Tensor:
    """`block_attn_res` of the authors: V a stack, K its norm, a softmax over the stack (2603.15031, figure 2)."""
    if query is None:  # there is one state, and its share is 1
        (state,) = states
        return state
    v = torch.stack(states)
    k = v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    logits = torch.einsum("d, n b t d -> n b t", query, k)
    return torch.einsum("n b t, n b t d -> b t d", logits.softmax(0), v)


def weight(block: Block, name: str) -> Tensor | None:
    return dict(block.child(name).named_parameters()).get("query")


@pytest.mark.parametrize("every", [1, 2, 4])
def test_sublayers_attend_to_sums_before(every: int) -> None:
    """Outputs, and gradients of the input and of every weight; blocks that end within the stage and that do not."""
    found, x = body(every=every), noise(2, TIME, WIDTH, seed=9).requires_grad_()
    blocks, partial, place = [x], None, 0
    for index in range(LAYERS):
        layer = found.child(str(index))
        for name in ("mixer", "ffn"):
            if place % every == 0 and partial is not None:
                blocks, partial = [*blocks, partial], None
            h = attended(weight(layer, f"{name}_streams"), blocks if partial is None else [*blocks, partial])
            y = layer.child(name)(layer.child(f"{name}_norm")(h, Flow()), Flow())
            partial, place = y if partial is None else partial + y, place + 1
    assert partial is not None
    wanted = attended(weight(found, "streams_end"), [*blocks, partial])
    got = found.run({"x": [x]}, Flow()).value()
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)
    weights, cotangent = [x, *found.parameters()], noise(*x.shape, seed=8)
    both = [torch.autograd.grad((y * cotangent).sum(), weights, retain_graph=True) for y in (got, wanted)]
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-10)


def test_decoding_is_the_whole_pass() -> None:
    """Token by token."""
    tokens = torch.randint(0, 256, (1, TIME), generator=torch.Generator().manual_seed(0))
    found = organism([stage("s", CONVOLUTION, repeat=3, streams={"kind": "attended", "every": 2})])
    with torch.no_grad():
        for index, parameter in enumerate(found.parameters()):
            parameter.add_(noise(*parameter.shape, seed=index) * 0.2)
    state, parts = OrganismState(), []
    for token_B1 in tokens.split(1, dim=1):
        logits, state = found.extend(token_B1, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), found(tokens), rtol=1e-9, atol=1e-11)


def test_shared_layers_are_told() -> None:
    """EVO357: each of them reads another number of states."""
    stages = [stage("s", MIX, repeat=2, share=True, streams={"kind": "attended"})]
    found = check(from_data({"evo": 1, "organism": {"width": 16, "stages": stages}}))
    assert [diagnostic.code for diagnostic in found if diagnostic.severity == "error"] == ["EVO357"]


def test_a_block_that_reads_all_streams_has_one_between_them() -> None:
    """Their number grows, so that an engram reads and adds to one as any block."""
    mix = {"kind": "engram", "rows": 8, "dim": 2}
    found = organism([stage("s", mix, repeat=2, streams={"kind": "attended"})])
    tokens = torch.randint(0, 256, (1, TIME), generator=torch.Generator().manual_seed(0))
    assert found(tokens).isfinite().all()
