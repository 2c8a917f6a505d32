"""Stages over segments: the recurrent memory written out, cut gradients, decoding across bounds, packed documents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from block_variants import inputs, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.segments.module import Segments
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
BODY = stage("inner", [ATTENTION, {"kind": "recurrence", "heads": 2}], repeat=2)


def model(**fields: Any) -> Organism:
    """Segments of four tokens between two vectors each, in float64, every weight moved."""
    return moved(organism([{"name": "body", "kind": "segments", "of": BODY, "every": 4, "count": 2, **fields}]))


def part(found: Organism) -> Segments:
    body = found.stages["body"]
    assert isinstance(body, Segments)
    return body


def handed(body: Segments, memory: Tensor, y: Tensor) -> Tensor:
    """Hutchins et al. 2203.07852, the fixed gate and the one of an LSTM; without a gate what the stage gives."""
    w = dict(body.named_parameters())
    mapped = lambda name: y @ w[name].T + w[f"{name}_bias"]  # noqa: E731
    if "keep" in w:
        g = torch.sigmoid(w["keep"])
        return memory * g + mapped("new") * (1 - g)
    if "new" in w:
        i, f = torch.sigmoid(mapped("input_gate") - 1), torch.sigmoid(mapped("forget_gate") + 1)
        return memory * f + torch.tanh(mapped("new")) * i
    return y


def written_out(body: Segments, x: Tensor, through: int | None = None) -> Tensor:
    """Bulatov et al. 2207.06881, section 3, for decoders: memory, segment, memory; the last of them is the next's."""
    memory, found = body.learned.expand(len(x), -1, -1), []
    for start in range(0, x.shape[1], body.every):
        tokens = x[:, start : start + body.every]
        y = body.of[0].run({"x": [torch.cat((memory, tokens, memory), 1)]}, Flow()).value()
        found.append(y[:, 2 : 2 + tokens.shape[1]])
        met = y[:, 2 + tokens.shape[1] :]
        if through is not None and (start // body.every + 1) % through == 0:
            memory, met = memory.detach(), met.detach()
        memory = handed(body, memory, met)
    return torch.cat(found, 1)


@pytest.mark.parametrize("backprop", [None, 1, 2])
@pytest.mark.parametrize("length", [1, 4, 5, 15])
def test_vectors_are_handed_on(length: int, backprop: int | None) -> None:
    """Outputs and the gradients of the input and of every weight."""
    body, x = part(model(backprop=backprop)), inputs(length).requires_grad_()
    found, wanted = body.run({"x": [x]}, Flow()).value(), written_out(body, x, backprop)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    leaves = [x, *body.parameters()]
    got, expected = (torch.autograd.grad(y.square().sum(), leaves, allow_unused=True) for y in (found, wanted))
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("backprop", [None, 1, 2])
@pytest.mark.parametrize("gate", ["fixed", "lstm"])
def test_vectors_are_changed_through_gates(gate: str, backprop: int | None) -> None:
    """Outputs and gradients of every weight, none of which is dead where gradients are cut behind each segment;
    decoding and packed documents too."""
    whole = model(gate=gate, backprop=backprop)
    body, x = part(whole), inputs(15).requires_grad_()
    found, wanted = body.run({"x": [x]}, Flow()).value(), written_out(body, x, backprop)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    leaves = [x, *body.parameters()]
    got, expected = (torch.autograd.grad(y.square().sum(), leaves) for y in (found, wanted))
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)
    ids = torch.tensor([[0] * 5 + [1] * 10, [3] * 15])
    packed = body.run({"x": [x]}, Flow(segments_BT=ids)).value()
    torch.testing.assert_close(packed[:1, 5:], written_out(body, x[:1, 5:]))
    rows, state, parts = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0)), OrganismState(), []
    for piece in rows.split([3, 1, 4, 9, 7], dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("lengths", [(1,) * 24, (3, 1, 4, 9, 7), (4, 4, 16), (23, 1)])
def test_decoding_goes_on_across_bounds(lengths: tuple[int, ...]) -> None:
    """In any pieces the logits are those of the whole."""
    whole = model()
    rows = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split(list(lengths), dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows), rtol=1e-9, atol=1e-11)


def test_packed_documents_are_read_one_by_one() -> None:
    """Each begins with a segment of its own, and with the learned vectors."""
    body, x = part(model()), inputs(11)
    ids = torch.tensor([[0] * 5 + [1] * 6, [3] * 11])
    packed = body.run({"x": [x]}, Flow(segments_BT=ids)).value()
    for row, start, end in ((0, 0, 5), (0, 5, 11), (1, 0, 11)):
        torch.testing.assert_close(packed[row : row + 1, start:end], written_out(body, x[row : row + 1, start:end]))


def test_no_token_sees_a_later_one() -> None:
    """Across segments either; and the first token reaches the last."""
    found = model()
    assert find_leak(found) is None
    x = inputs(12).requires_grad_()
    part(found).run({"x": [x]}, Flow()).value()[:, -1].sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].abs().max() > 0


def test_what_it_costs() -> None:
    """A segment and its vectors on both sides for each segment of tokens; a cache of one segment and the first ones."""
    whole, alone = (
        plan([{"name": "a", "kind": "segments", "of": BODY, "every": 8, "count": 3}]),
        plan([BODY], context=14),
    )
    inner = sum(block.flops for block in alone.stages)
    assert sum(block.flops for block in whole.stages) == pytest.approx(inner * 14 / 8)
    context, own = 24, 2 * 16  # keys and values
    values = whole.cache_values(context) - whole.state
    assert values == own * 11
