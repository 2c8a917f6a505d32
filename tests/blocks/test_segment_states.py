"""Segments that go on from states: Transformer-XL written out, with its gradients; decoding; packed documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from block_variants import inputs, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.segments.module import Segments
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2, "stencil": {"kind": "window", "size": 7}, "position": {"kind": "none"}}
LAYERS = {"name": "inner", "repeat": 2, "layers": {"sublayers": [{"block": ATTENTION}]}}
MIXED = stage("inner", [{"kind": "attention", "heads": 2}, {"kind": "recurrence", "heads": 2}], repeat=2)


def model(of: dict[str, Any], every: int = 4) -> Organism:
    """Segments of four tokens that go on from states, in float64, every weight moved."""
    return moved(organism([{"name": "body", "kind": "segments", "hand": "states", "of": of, "every": every}]))


def part(found: Organism) -> Segments:
    body = found.stages["body"]
    assert isinstance(body, Segments)
    return body


def transformer_xl(weights: list[Mapping[str, Tensor]], x: Tensor, every: int, window: int) -> Tensor:
    """h~ = [SG(h of segments before) ; h], q = W_q h, k and v = W h~ (Dai et al. 1901.02860, section 3.2), a layer
    being x + attention(x): segment by segment and layer by layer, over the last `window` positions."""
    memories, found = [x[:, :0] for _ in weights], []
    for h in x.split(every, dim=1):
        for at, w in enumerate(weights):
            seen = torch.cat((memories[at].detach(), h), dim=1)
            q, k, v = (
                (y @ w[name].T).unflatten(-1, (2, -1)).transpose(1, 2)
                for name, y in (("q", h), ("k", seen), ("v", seen))
            )
            away = torch.arange(seen.shape[1] - h.shape[1], seen.shape[1])[:, None] - torch.arange(seen.shape[1])
            scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill((away < 0) | (away >= window), -torch.inf)
            memories[at] = seen
            h = h + (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2) @ w["o"].T
        found.append(h)
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("length", [3, 4, 9, 15])
def test_attention_over_them_is_transformer_xl(length: int) -> None:
    """Values, and the gradients of the input and of every weight, those of keys of earlier segments included."""
    body, x = part(model(LAYERS)), inputs(length).requires_grad_()
    blocks = [dict(layer.named_parameters()) for layer in body.of[0].children()]
    weights = [{name.rsplit(".", 1)[-1]: w for name, w in found.items()} for found in blocks if found]
    assert [set(w) for w in weights] == [{"q", "k", "v", "o"}] * 2
    found, wanted = body.run({"x": [x]}, Flow()).value(), transformer_xl(weights, x, 4, 7)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    leaves = [x, *body.parameters()]
    got, expected = (torch.autograd.grad(y.square().sum(), leaves) for y in (found, wanted))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


def test_values_are_those_of_the_stage() -> None:
    """Whatever keeps a state: only gradients are cut."""
    body, x = part(model(MIXED)), inputs().requires_grad_()
    found, whole = body.run({"x": [x]}, Flow()).value(), body.of[0].run({"x": [x]}, Flow()).value()
    torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-11)
    (cut,) = torch.autograd.grad(found[:, 9].sum(), x)
    (far,) = torch.autograd.grad(whole[:, 9].sum(), x)
    assert (cut[:, :8].any().item(), cut[:, 8:10].any().item(), far[:, :8].any().item()) == (False, True, True)


@pytest.mark.parametrize("lengths", [(1,) * 24, (3, 1, 4, 9, 7), (4, 4, 16), (23, 1)])
def test_decoding_continues(lengths: tuple[int, ...]) -> None:
    """In any pieces, as in one pass."""
    found, tokens = model(MIXED), torch.arange(24)[None]
    state, parts = OrganismState(), list[Tensor]()
    for piece in tokens.split(list(lengths), dim=1):
        logits, state = found.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), found(tokens), rtol=1e-9, atol=1e-11)


def test_packed_documents_begin_anew() -> None:
    """Each is what it is by itself."""
    body, x = part(model(LAYERS)), inputs(batch=1)
    flow = Flow(segments_BT=torch.repeat_interleave(torch.tensor([5, 2, 5]), torch.tensor([7, 11, 6]))[None])
    alone = [body.run({"x": [y]}, Flow()).value() for y in x.split([7, 11, 6], dim=1)]
    torch.testing.assert_close(body.run({"x": [x]}, flow).value(), torch.cat(alone, dim=1))


def test_it_costs_what_the_stage_does() -> None:
    """Operations, and what decoding keeps."""
    body = {"name": "a", "kind": "segments", "hand": "states", "of": MIXED, "every": 8}
    whole, alone = plan([body]), plan([MIXED])
    assert whole.flops_per_token == alone.flops_per_token
    assert whole.cache_values(20) == alone.cache_values(20)


def test_nothing_leaks() -> None:
    """As training asks before it begins."""
    assert find_leak(model(MIXED)) is None


GATHERING: dict[str, dict[str, Any]] = {
    "route": stage("inner", {"route": [{"kind": "attention", "heads": 2}, {"kind": "convolution"}]}),
    "chunks": {"name": "inner", "kind": "chunks", "of": MIXED},
    "depths": {"name": "inner", "kind": "depths", "of": MIXED},
    "dynamic_patches": {"name": "inner", "kind": "dynamic_patches", "of": MIXED},
}


@pytest.mark.parametrize("name", GATHERING)
def test_what_takes_tokens_of_each_row_is_refused(name: str) -> None:
    """EVO358: row by row, some of its maps would meet no token, and no step of training could be captured."""
    with pytest.raises(AssertionError, match=r"EVO358.*row by row"):
        model(GATHERING[name])
