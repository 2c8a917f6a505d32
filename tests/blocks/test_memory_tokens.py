"""Stages with memory tokens: the longer sequence written out, decoding across bounds, packed documents, costs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from block_variants import CONTEXT, document, inputs, moved, organism, plan, stage
from torch import Tensor

from evo.blocks.flow import Flow
from evo.blocks.stages.memory_tokens.module import MemoryTokens
from evo.compiler.organism import Organism, OrganismState
from evo.training.causality import find_leak

ATTENTION = {"kind": "attention", "heads": 2}
LOCAL = {**ATTENTION, "stencil": {"kind": "block", "size": 6}}
BODY = stage("inner", [ATTENTION, LOCAL, {"kind": "memory", "heads": 2, "chunk": 6}], repeat=3)


BOTH = pytest.mark.parametrize("every", [4, None], ids=["between", "first"])


def model(**fields: Any) -> Organism:
    """Segments of four tokens with two learned vectors behind each, in float64, every weight moved."""
    return moved(organism([{"name": "body", "kind": "memory_tokens", "of": BODY, "every": 4, "count": 2, **fields}]))


def part(found: Organism) -> MemoryTokens:
    body = found.stages["body"]
    assert isinstance(body, MemoryTokens)
    return body


def written_out(body: MemoryTokens, x: Tensor) -> Tensor:
    """One vector after another."""
    vectors, places = [], []
    for t in range(x.shape[1]):
        if t == 0 if body.every is None else t and t % body.every == 0:
            vectors += [body.learned[None, :].expand(len(x), -1, -1)]
        places.append(sum(vector.shape[1] for vector in vectors))
        vectors.append(x[:, t : t + 1])
    return body.of[0].run({"x": [torch.cat(vectors, 1)]}, Flow()).value()[:, places]


@BOTH
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 23])
def test_learned_vectors_stand_behind_each_segment_or_first(length: int, every: int | None) -> None:
    """The tokens' part of what the stage inside makes of the longer sequence."""
    body, x = part(model(every=every)), inputs(length)
    torch.testing.assert_close(body.run({"x": [x]}, Flow()).value(), written_out(body, x), rtol=1e-9, atol=1e-11)


@BOTH
@pytest.mark.parametrize("lengths", [(1,) * 24, (3, 1, 4, 9, 7), (4, 4, 16), (23, 1)])
def test_decoding_goes_on_across_bounds(lengths: tuple[int, ...], every: int | None) -> None:
    """In any pieces the logits are those of the whole."""
    whole = model(every=every)
    rows = torch.randint(256, (2, 24), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split(list(lengths), dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows))


@pytest.mark.parametrize("every", [3, None])
def test_windows_slide_over_the_longer_sequence(every: int | None) -> None:
    """However many learned vectors there are for a token, a cache holds what its window shows."""
    window = {**ATTENTION, "stencil": {"kind": "window", "size": 5}}
    whole = model(of=stage("inner", window), every=every, count=4)
    rows = torch.randint(256, (1, 12), generator=torch.Generator().manual_seed(0))
    state, parts = OrganismState(), []
    for piece in rows.split(1, dim=1):
        logits, state = whole.extend(piece, state)
        parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole(rows), rtol=1e-9, atol=1e-11)


@BOTH
def test_packed_documents_are_read_one_by_one(every: int | None) -> None:
    """Each begins with a segment of its own."""
    body, x = part(model(every=every)), inputs(11)
    ids = torch.tensor([[0] * 5 + [1] * 6, [3] * 11])
    packed = body.run({"x": [x]}, Flow(segments_BT=ids)).value()
    torch.testing.assert_close(packed[:1, :5], written_out(body, x[:1, :5]))
    torch.testing.assert_close(packed[:1, 5:], written_out(body, x[:1, 5:]))
    torch.testing.assert_close(packed[1:], written_out(body, x[1:]))


@BOTH
def test_nothing_leaks_and_every_weight_learns(every: int | None) -> None:
    """To the token; learned vectors get gradients from the tokens behind them."""
    whole = model(every=every)
    assert find_leak(whole) is None
    rows = torch.randint(256, (2, CONTEXT), generator=torch.Generator().manual_seed(0))
    whole.loss(rows, rows).backward()
    assert [path for path, p in whole.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_the_longer_sequence_is_what_costs() -> None:
    """Half as much again with two vectors behind four tokens, over the longer context; so does its cache."""
    body = {
        "name": "body",
        "kind": "memory_tokens",
        "of": {**stage("body", ATTENTION), "name": "b"},
        "every": 4,
        "count": 2,
    }
    inner = plan([body]).stages[0].children[0][1]
    alone = plan([stage("body", ATTENTION)], context=CONTEXT + (CONTEXT - 1) // 4 * 2)
    assert inner.flops == pytest.approx(1.5 * alone.stages[0].flops)
    assert plan([body]).cache_per_token == 1.5 * alone.cache_per_token


def test_vectors_that_stand_first_cost_their_share() -> None:
    """Two more positions of a whole context, in operations and in the cache."""
    inner = stage("b", ATTENTION)
    body = {"name": "body", "kind": "memory_tokens", "of": inner, "every": None, "count": 2}
    alone = plan([stage("body", ATTENTION)], context=CONTEXT + 2)
    share = 1 + 2 / CONTEXT
    assert plan([body]).stages[0].children[0][1].flops == pytest.approx(share * alone.stages[0].flops)
    assert plan([body]).cache_per_token == math.ceil(share * alone.cache_per_token)


@pytest.mark.parametrize(
    "bad",
    [{"every": CONTEXT}, {"of": {**BODY, "from": "embedding"}}, {"of": stage("b", {**ATTENTION, "kv_to": "n"})},
     {"of": stage("b", {**ATTENTION, "causal": False})}],
    ids=["one segment", "a second source", "shared keys", "later tokens"],
)  # fmt: skip
def test_what_has_no_memory_tokens_is_refused(bad: dict[str, Any]) -> None:
    """EVO358."""
    with pytest.raises(AssertionError, match="EVO358"):
        document([{"name": "body", "kind": "memory_tokens", "of": BODY, "every": 4, **bad}])
